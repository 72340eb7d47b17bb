"""The console command `latenteditor`: one short file a subcommand. Parses, calls, says what was written."""
