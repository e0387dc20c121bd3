"""How wide a layer's numbers are: fans, gains, and the formulas made of them."""
