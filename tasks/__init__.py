"""Tasks: SeqIO registrations, one module a family. A run names the modules it uses in MODULES."""
