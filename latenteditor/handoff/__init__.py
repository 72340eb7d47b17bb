"""What is handed to somebody whose scene was edited: one page that shows what was done and what came of it."""
