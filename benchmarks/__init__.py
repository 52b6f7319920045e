"""What is measured, and how; `RESULTS.md` holds the last run of each benchmark."""
