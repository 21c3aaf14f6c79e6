"""What is in a file, found out without loading it; one kind of content a file."""
