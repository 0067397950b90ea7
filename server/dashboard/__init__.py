"""The page that a coordinator watches a run on: read-only, on this machine only, from files that others write.

``files`` reads what lies in a home and in its runs; a damaged file costs its own numbers only. ``roster`` knows who is
connected, ``progress`` how far the run is, ``history`` what its rounds tell, ``spending`` what it has cost,
``troubles`` what went wrong in plain words, ``outcome`` whether the model may be handed out. ``state`` is all of it as
one picture at a moment, ``charts`` and ``pieces`` make a page of it, ``web`` decides who may see it.
"""
