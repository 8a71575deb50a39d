"""What a model read: texts as tokens, traces by stack, and the attention matrices of every layer.

``source`` finds the text, ``tokens`` cuts it, ``published`` runs a model of Transformers over it, ``traced``
takes whatever a trace caught, and ``reading`` is what they all give. Nothing here is shown or written.
"""
