"""Results as records and the files that hold them: report.json and the tables of every verb."""
