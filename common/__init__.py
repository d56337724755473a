"""What knows no network: errors, files, the machine."""
