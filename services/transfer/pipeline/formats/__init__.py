"""Readers of file formats that find what is attached to a picture or video without decoding it, each within bounds."""
