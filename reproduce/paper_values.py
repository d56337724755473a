"""The paper's numbers (arXiv 2510.03101v2), each under its table or figure; nothing computed.

Of its figures only what the text says in numbers is here: nothing was read off a plot.
"""

from __future__ import annotations

MODELS = ("resnet50", "vgg16", "mobilenetv2", "vit")
MODEL_TITLES = {
    "resnet50": "ResNet50",
    "vgg16": "VGG16",
    "mobilenetv2": "MobileNetV2",
    "vit": "ViT",
}
DATASETS = ("stanford_dogs", "oxford_iiit_pet", "caltech_birds2011", "oxford_flowers102")
DATASET_TITLES = {
    "stanford_dogs": "Stanford Dogs",
    "oxford_iiit_pet": "Oxford-IIIT Pets",
    "caltech_birds2011": "CUB",
    "oxford_flowers102": "Flowers102",
}
NUM_CLASSES = {  # Table 2
    "stanford_dogs": 120,
    "oxford_iiit_pet": 37,
    "caltech_birds2011": 200,
    "oxford_flowers102": 102,
}
TRAIN_IMAGES = {  # appendix C
    "stanford_dogs": 12000,
    "oxford_iiit_pet": 3680,
    "caltech_birds2011": 5994,
    "oxford_flowers102": 1020,
    "digits": 599,  # not the paper's: the embedded set
}
TEST_IMAGES = {  # likewise
    "stanford_dogs": 8580,
    "oxford_iiit_pet": 3669,
    "caltech_birds2011": 5794,
    "oxford_flowers102": 6149,
    "digits": 297,
}
METHODS = (  # the columns of Table 2, in its order
    "full_training",
    "traditional_tl_training",
    "last_k_training",
    "fisher_training",
    "prune_training",
    "elastic_training",
    "act_norm_betti_train",
)
CONTROLS = ("random_k_training", "smallest_k_training")  # ours, beside the paper's methods
METHOD_TITLES = {
    "full_training": "Full Training",
    "traditional_tl_training": "Transfer Learning",
    "last_k_training": "Last-K Layers",
    "fisher_training": "Fisher Information",
    "prune_training": "PruneTrain",
    "elastic_training": "ElasticTrainer",
    "act_norm_betti_train": "AdaBet",
    "no_norm_betti_train": "No normalisation",
    "weight_norm_betti_train": "Weight normalisation",
    "random_k_training": "Random-K (control)",
    "smallest_k_training": "Smallest-K (control)",
    "inference": "Inference",
}

_TABLE2 = """
stanford_dogs     resnet50    70.87 70.01 72.8  73.76 66.09 72.55 75.52
stanford_dogs     vgg16       60.82 61.66 70.13 70.17 50.2  66.8  72.09
stanford_dogs     mobilenetv2 80.47 80.4  79.62 80.47 73.31 77.02 81.76
stanford_dogs     vit         86.42 86.16 86.45 14.37 82.6  87.79 85.12
oxford_iiit_pet   resnet50    86.18 84.63 86.37 85.94 86.48 87.54 88.74
oxford_iiit_pet   vgg16       81.18 85.37 85.41 86.56 78.44 34.9  86.14
oxford_iiit_pet   mobilenetv2 86.95 87.78 86.8  87.16 27.3  86.70 89.93
oxford_iiit_pet   vit         93.15 90.21 88.97 26.23 90.57 91.96 92.23
caltech_birds2011 resnet50    34.76 27.13 33.62 39.85 28.85 24.37 46.37
caltech_birds2011 vgg16       57.17 58.37 57.42 58.77 52.77 15.75 60.30
caltech_birds2011 mobilenetv2 42.35 50.37 38.21 42.26 50.05 15.95 46.36
caltech_birds2011 vit         85.73 80.76 79.89 62.34 80.22 82.93 79.47
oxford_flowers102 resnet50    80.56 77.18 79.16 79.05 80.45 80.6  81.39
oxford_flowers102 vgg16       61.79 75.83 73.5  74.21 33.68 74.86 74.71
oxford_flowers102 mobilenetv2 61.72 30.96 65.8  56.22 37.6  37.6  61.5
oxford_flowers102 vit         78.66 95.45 95.97 13.10 98.12 97.71 98.55
"""

# Table 2, "Average", as printed: the means of the columns, cut off rather than rounded; only
# PruneTrain's column has another mean, 63.55.
TABLE2_AVERAGE = dict(zip(METHODS, (71.79, 71.39, 73.75, 59.41, 63.35, 64.68, 76.26)))

TABLE3_MODELS = ("resnet50", "vit", "mobilenetv2", "vgg16")  # in its order
TABLE3_METHODS = (  # the rows of Table 3, in its order
    "inference",
    "full_training",
    "traditional_tl_training",
    "last_k_training",
    "elastic_training",
    "prune_training",
    "fisher_training",
    "act_norm_betti_train",
)
_TABLE3_SELECTION = """
elastic_training     777.12 386.60 373.58 988.77
prune_training       777.12 386.60 373.58 988.77
fisher_training      777.12 386.60 373.58 988.77
act_norm_betti_train 243.04  86.26 315.86 932.21
"""
_TABLE3_TRAINING = """
inference               243.04  86.26 315.86 932.21
full_training           777.12 386.60 373.58 988.77
traditional_tl_training 243.30  86.46 316.02 932.27
last_k_training         263.19 103.10 319.46 932.41
elastic_training        299.66 138.05 322.13 969.44
prune_training          777.12 386.60 373.58 988.77
fisher_training         270.98  86.27 316.02 932.28
act_norm_betti_train    261.78  93.64 318.5  932.45
"""


def _table2() -> dict[tuple[str, str, str], float]:
    values = {}
    for line in _TABLE2.split("\n"):
        if line:
            dataset, model, *numbers = line.split()
            for method, value in zip(METHODS, numbers):
                values[dataset, model, method] = float(value)
    return values


def _table3(block: str) -> dict[tuple[str, str], float]:
    values = {}
    for line in block.split("\n"):
        if line:
            method, *numbers = line.split()
            for model, value in zip(TABLE3_MODELS, numbers):
                values[method, model] = float(value)
    return values


TABLE2 = _table2()  # (data set, model, method) -> top-1 accuracy, percent
TABLE3 = {  # phase -> (method, model) -> MB
    "selection": _table3(_TABLE3_SELECTION),
    "training": _table3(_TABLE3_TRAINING),
}

# Table 4: b0, b1, b2, b3 of four shapes. The shapes are pictures there; these are the ones that
# the text names with such numbers (appendix B) and, for b0 alone, a disc.
TABLE4 = {
    "disc": (1, 0, 0, 0),
    "circle": (1, 1, 0, 0),
    "sphere": (1, 0, 1, 0),
    "torus": (1, 2, 1, 0),
}

# What the text states in numbers.
FIGURE1_UP_TO = 76.0  # caption of Figure 1: peak memory reduced by up to, percent
FIGURE1_MEAN = 40.0  # the same, on average over the four backbones
TABLE3_REDUCTION = {  # Table 3, last row: AdaBet's training against full training, percent
    "resnet50": 66.31,
    "vit": 75.77,
    "mobilenetv2": 14.74,
    "vgg16": 5.72,
}
FIGURE5_SELECTION_FASTER = 45.0  # section 6.2.2: than ElasticTrainer's, on average, percent
FIGURE5_EPOCH_SHORTER = {"resnet50": 15.0, "vit": 7.0}  # section 6.2.2: than full training's
FIGURE7_MEMORY_AT_RHO_01 = 65.0  # section 6.3.2: less than at rho 1, ResNet50, percent
FIGURE7_MEMORY_AT_RHO_CH_01 = 74.0  # section 6.3.3: rho 0.5, less than at rho_ch 1, percent
FIGURED10_ENOUGH = 5  # appendix D.3: mini-batches beyond which nothing changes
FIGURED13_SELECTION = 30.0  # appendix D.6: shorter as rho decreases, percent
FIGURED13_EPOCH = 45.0  # appendix D.6: shorter than full training, percent
FIGURED14_SELECTION = 15.0  # appendix D.6: with decreasing rho_ch, percent
FIGURED14_EPOCH = 6.0  # appendix D.6: rho_ch 0.9 to 0.2, percent
FIGUREE16_MEMORY = {"resnet50": 20.6, "mobilenetv2": 6.2}  # appendix E: than full, percent
FIGUREE16_CPU = {"resnet50": 11.3, "mobilenetv2": 7.9}  # appendix E: than full, percent
