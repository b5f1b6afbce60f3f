"""What methods read: the field's file formats, and what Tenfold ships itself."""
