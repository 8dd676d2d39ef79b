"""The public annotation formats, one file each, read and written.

Every reader returns ``Annotations`` (records.py): all rows of the file in its order, and a list of defects. One rule holds for all of them:

* What cannot be understood (a missing field, a word for a number, a broken line) raises ``InputError`` with file, line, field, value and
  rule.
* What is understood but breaks a rule of ours, as published files do (a window past the end of its video, an end before its start, an id
  that stands twice), stays in its row exactly as published, and is named in ``defects``. Nothing is dropped and nothing is repaired.
  ``annotations.sound()`` gives the rows without defects; ``Window.span`` gives a ``Span`` or raises ``SpanError``.
* Fields that the format does not name are kept in ``extra`` and written back.
* A number keeps its kind: a whole number that a file writes without a point stays an int inside a float field, so that writing gives its
  digits back.

Times are seconds; formats that count frames or clips say so and convert in a property. A user's own files (own.py) have no published
truth to be faithful to: there a span that is none is refused.
"""
