"""A label for an image.

``idx`` and ``folder`` find data, ``pixels`` brings any picture into the model's form, ``reading`` puts them
together, ``augment`` varies what is learnt from, ``classification`` is the task.
"""
