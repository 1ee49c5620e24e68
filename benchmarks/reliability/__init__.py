"""What the server promises when things go wrong, measured: each script prints one table and fails below its bar."""
