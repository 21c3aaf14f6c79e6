"""The command line of isometry."""
