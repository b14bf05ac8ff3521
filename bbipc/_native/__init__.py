"""How the classes call the native library.

From below:

- ``library`` finds and loads it. ``declarations`` declares its functions for ctypes, with the types of ``handles``.
- ``by_ctypes`` calls them, with ``buffers`` for what they read and write, and with ``plain_calls`` for those that take
  nothing but numbers. ``results`` tells failures from answers.
- ``by_cpython`` gets built-in functions instead.
- ``calls`` has whichever there are, which the classes take. ``waiting`` makes waits of them that hear of signals.
- ``owner`` is what sockets and pollers have in common, ``process`` what happens at a fork and at the end.
- ``classes`` says what all of these need of the classes, to type checkers alone.
"""
