"""What the device counts about its data and its predictions: integers only, of bounded size, told in windows.

Rules: raw inputs never leave the device; a prediction is never slowed by more than a copy of what is to be counted, and
never fails because counting does; a window is told once, whatever is cut or sent again.
"""
