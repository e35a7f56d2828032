"""The command line: `promot run`, `eval`, `infer`, `report`, `import`, `export`, `inspect`."""
