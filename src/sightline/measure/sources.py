"""Papers that several measures come from."""

CHEFER_2021 = (
    "Chefer et al. 2021, Generic attention-model explainability for interpreting bi-modal and "
    "encoder-decoder Transformers"
)
CLARK_2019 = "Clark et al. 2019, What does BERT look at? An analysis of BERT's attention"
DOSOVITSKIY_2020 = (
    "Dosovitskiy et al. 2020, An image is worth 16x16 words: Transformers for image recognition at scale"
)
GU_2024 = "Gu et al. 2024, When attention sink emerges in language models: an empirical view"
JAIN_2019 = "Jain & Wallace 2019, Attention is not explanation"
OLSSON_2022 = "Olsson et al. 2022, In-context learning and induction heads"
VOITA_2019 = (
    "Voita et al. 2019, Analyzing multi-head self-attention: specialized heads do the heavy lifting, the "
    "rest can be pruned"
)
XIAO_2023 = "Xiao et al. 2023, Efficient streaming language models with attention sinks"
ZHAI_2023 = "Zhai et al. 2023, Stabilizing Transformer training by preventing attention entropy collapse"

#: To be shown beside any attention weights.
CAVEAT = (
    "Weights show where a head looks, not by themselves why: Jain & Wallace 2019, Wiegreffe & Pinter 2019."
)
