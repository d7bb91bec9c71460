"""Pages with much text and exact ground truth, in many languages and scripts (report 2.1, rendered assets, and 2.2, text captions)."""
