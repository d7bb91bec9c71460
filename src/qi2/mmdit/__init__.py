"""The six MMDiT training stages (report sections 2.3 and 4.1)."""
