"""Networks and samplers (report sections 3.1, 3.2): no training code."""
