"""Functions behind the commands: screening files, the catalogue, the installation check."""
