"""How the classes call the native library.

From below: ``library`` finds it, ``declarations`` declares its functions for ctypes, ``by_ctypes`` calls them, with
``buffers`` for what they read and write; ``by_cpython`` gets built-in functions instead; and ``calls`` has whichever
there are, which the classes take. ``classes`` says what all of these need of the classes.
"""
