"""The command line: `promot run`, `eval`, `infer`, `report`."""
