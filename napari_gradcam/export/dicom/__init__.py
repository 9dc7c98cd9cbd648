"""Explanations as DICOM objects of the scan's own study: parametric map, segmentation, picture and report.

They are made by highdicom, whose import takes more than a second: each module here is imported when it is asked to
write.

``source.py`` and ``images.py`` find the slices in the scan's files, ``identity.py`` says whose they are, or hides it,
``making.py`` gives what all four have in common, and ``references.py`` tells from which image a frame comes.
"""
