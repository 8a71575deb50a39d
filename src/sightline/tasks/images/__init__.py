"""A label for an image.

``idx`` and ``folder`` find data, ``pixels`` converts any picture to the model's form, ``reading`` combines
them, ``augment`` varies what is learnt from, ``classification`` is the task.
"""
