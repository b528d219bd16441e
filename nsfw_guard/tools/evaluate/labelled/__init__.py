"""Measures a guard on images whose content people have labelled."""
