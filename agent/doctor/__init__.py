"""`skerry-agent doctor`: what is wrong with this device, in words, and what to do about it.

It reads and tries, and changes nothing. It works with the agent down, and each check has a deadline.
"""
