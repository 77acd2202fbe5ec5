"""Training settings of a row of the table → the parts `augment`, `train` and `eval` of a recipe.

What a recipe cannot say is an error, but for where a backbone's first weights come from: that is counted in `unsaid`.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from .models import Training
from .node import Node

Json = dict[str, Any]

# What Augmentation calls the values of MMPose's transforms, and MMPose's defaults.
_BOX_TRANSFORM = {
    "scale": ("scale_factor", [0.5, 1.5]),
    "scale_prob": ("scale_prob", 1.0),
    "rotate": ("rotate_factor", 80.0),
    "rotate_prob": ("rotate_prob", 0.6),
    "shift": ("shift_factor", 0.16),
    "shift_prob": ("shift_prob", 0.3),
}
# What the metrics are called here.
_METRICS = {
    "CocoMetric": "coco_ap",
    "JhmdbPCKAccuracy": "jhmdb_pck",
    "MpiiPCKAccuracy": "mpii_pckh",
    "PoseTrack18Metric": "posetrack_ap",
}
# Metrics that data sets have of their own: `auto` takes them.
_OWN_METRICS = (["CocoWholeBodyMetric"], ["NME"], ["PCKAccuracy", "AUC", "EPE"], ["PCKAccuracy", "AUC"])
# Losses that a head has only in some rows.
_OTHER_LOSSES = {
    ("HeatmapHead", "AdaptiveWingLoss"): "adaptive_wing",
    ("RegressionHead", "WingLoss"): "wing",
    ("RegressionHead", "SoftWingLoss"): "soft_wing",
}
# Parts of names of which the table says that they have no weight decay.
_UNDECAYED = ("absolute_pos_embed", "norm", "relative_position_bias_table")
# Steps that change pixels, in the only order in which `fastpose.data.pixels` does them; all come after the crop.
_PIXELS = ("hsv", "photometric", "blur", "median_blur", "holes", "grid")


def read_recipe(row: Json, alias: str, training: Training, stages: int, unsaid: set[str]) -> Json:
    """The recipe of a row.

    Args:
        row: of the table.
        alias: name of its configuration, which says how many GPUs there were.
        training: what the head says.
        stages: of the output.
        unsaid: names of what a recipe cannot say are added here.

    Returns:
        The parts, only with values that differ from the schema's defaults or that the table states.
    """
    parts = ("optim_wrapper", "param_scheduler", "train_cfg", "auto_scale_lr")
    table = Node({key: row[key] for key in parts}, alias)
    cycle = table.node("train_cfg")
    cycle.require(by_epoch=True)
    epochs = cycle.take("max_epochs")
    # The rate is for the batches of the published run. Where `auto_scale_lr` gives another number (31 rows), following
    # it would change the rate of the very run that it stands beside; it was switched off there.
    scaled = table.node("auto_scale_lr").take("base_batch_size")
    gpus = re.search(r"[_-](\d+)xb\d+-", alias)
    batch_size = row["train"]["batch_size"] * int(gpus[1]) if gpus else scaled  # names of distilled networks lack it
    train: Json = {"epochs": epochs, "batch_size": batch_size, "base_batch_size": batch_size}
    steps = [step for step in row["train"]["pipeline"] if step["type"] == "GenerateTarget"]
    train["use_joint_weights"] = steps[0].get("use_dataset_keypoint_weights", False)
    wrapper = table.node("optim_wrapper")
    train["optimizer"] = _optimizer(wrapper, train, row["model"]["backbone"])
    train["schedule"] = _schedule(table.take("param_scheduler"), epochs, train["optimizer"]["lr"])
    augment = _augment(row["train"]["pipeline"], row["codec"])
    for config in row["custom_hooks"]:
        _hook(Node(config, f"{alias}.{config['type']}"), row["codec"], train)
    train.update(_loss(training, row, stages))
    if (row["model"]["backbone"].get("init_cfg") or {}).get("type") == "Pretrained":
        unsaid.add("backbone starts from weights of another training")
    if row["train"]["dataset_type"] == "CombinedDataset":
        unsaid.add("training on two data sets at once")
    evaluation = {"every": cycle.take("val_interval"), **_evaluation(row)}
    if evaluation.get("metric") == "jhmdb_pck":  # small sets, whose runs the warm-up takes a large part of
        train["schedule"]["warmup_limit"] = 1.0
    for node in (cycle, wrapper, table):
        node.done()
    return {"augment": augment, "train": train, "eval": evaluation}


def _optimizer(wrapper: Node, train: Json, backbone: Json) -> Json:
    optimizer = wrapper.node("optimizer")
    found = {"name": optimizer.take("type").lower(), "lr": optimizer.take("lr")}
    decay = optimizer.take("weight_decay", 0.0)
    if decay:
        found["weight_decay"] = decay
    optimizer.expect(betas=[0.9, 0.999])
    optimizer.done()
    clip = wrapper.node("clip_grad")
    clip.expect(norm_type=2)
    norm = clip.take("max_norm", None)
    if norm is not None:
        train["clip_grad"] = norm
    clip.done()
    if wrapper.take("type", "OptimWrapper") == "AmpOptimWrapper":
        wrapper.require(loss_scale="dynamic")
        train["precision"] = "float16"
    groups = wrapper.node("paramwise_cfg")
    groups.ignore("bypass_duplicate")  # there are no parameters twice
    rules = groups.node("custom_keys")
    if wrapper.take("constructor", None) == "LayerDecayOptimWrapperConstructor":
        # It does not read the rules, and lets neither normalisation nor biases nor positions decay.
        rules.ignore("bias", "norm", "pos_embed", "relative_position_bias_table")
        found["no_decay"] = ["pos_embed"]
        found["layer_decay"] = groups.take("layer_decay_rate")
        groups.require(num_layers=_depth(backbone))
    else:
        no_decay = [key for key in _UNDECAYED if rules.take(key, None) == {"decay_mult": 0.0}]
        if no_decay:
            found["no_decay"] = no_decay
        for ours, theirs in (("norm_decay", "norm_decay_mult"), ("bias_decay", "bias_decay_mult")):
            factor = groups.take(theirs, 1)
            if decay and factor:
                found[ours] = factor
    rules.done()
    groups.done()
    return found


def _depth(backbone: Json) -> int:
    """Blocks of a vision transformer."""
    arch = backbone["arch"]
    depth: int = arch["num_layers"] if isinstance(arch, dict) else {"base": 12, "large": 24, "huge": 32}[arch]
    return depth


def _schedule(schedulers: list[Json], epochs: int, rate: float) -> Json:
    warmup, course = (Node(config, config["type"]) for config in schedulers)
    warmup.require(type="LinearLR", begin=0, by_epoch=False)
    found: Json = {"warmup": warmup.take("end"), "warmup_start": warmup.take("start_factor")}
    kind = course.take("type")
    course.require(by_epoch=True)
    if kind == "MultiStepLR":
        course.expect(begin=0)
        course.ignore("end")  # of the run, or of a longer one that this was cut from
        # Not rounded: a milestone must not fall into the epoch before.
        milestones = [epoch / epochs for epoch in course.take("milestones")]
        found = {"kind": "step", **found, "milestones": milestones, "factor": course.take("gamma")}
    elif kind == "CosineAnnealingLR":
        begin = course.take("begin")
        if begin >= epochs:  # of a longer run that this was cut from: the rate never falls
            course.ignore("T_max", "end", "convert_to_iter_based", "eta_min")
            warmup.done()
            course.done()
            return {"kind": "step", **found, "milestones": []}
        course.require(T_max=epochs - begin, end=epochs, convert_to_iter_based=True)
        found = {"kind": "cosine", **found, "begin": begin / epochs, "final": round(course.take("eta_min") / rate, 12)}
    else:
        raise ValueError(f"schedule {kind}: nobody accounts for it")
    warmup.done()
    course.done()
    return found


def _augment(pipeline: list[Json], codec: Json | list[Json]) -> Json:
    """What is changed at random in a crop."""
    found: Json = {"half_body_prob": 0.0, "flip_prob": 0.0}
    pixels: Json = {}
    cropped = False
    for config in pipeline:
        step = Node(config, config["type"])
        kind = step.take("type")
        if kind == "RandomFlip":
            step.require(direction="horizontal")
            del found["flip_prob"]
        elif kind == "RandomHalfBody":
            del found["half_body_prob"]
        elif kind == "RandomBBoxTransform":
            values = {ours: (step.take(theirs, default), default) for ours, (theirs, default) in _BOX_TRANSFORM.items()}
            # Scale and rotation differ between data sets and are always said.
            always = ("scale", "rotate")
            found.update({key: value for key, (value, default) in values.items() if value != default or key in always})
        elif kind == "mmdet.YOLOXHSVRandomAug" and cropped:
            pixels["hsv"] = {}
        elif kind == "PhotometricDistortion" and cropped:
            pixels["photometric"] = {}
        elif kind == "Albumentation" and cropped:
            for transform in step.take("transforms"):
                pixels.update(_pixels(Node(transform, f"Albumentation.{transform['type']}")))
        elif kind == "GenerateTarget":
            step.require(encoder=codec)
            step.expect(multilevel=isinstance(codec, list))
            step.ignore("use_dataset_keypoint_weights")  # read where the loss is
        elif kind == "TopdownAffine":
            step.ignore("input_size", "use_udp")  # the spec's; the pipelines of training and validation agree
            cropped = True
        elif kind in ("LoadImage", "GetBBoxCenterScale", "PackPoseInputs"):
            step.ignore("backend_args", "file_client_args", "padding")  # the padding is the spec's
        else:
            raise ValueError(f"step {kind} of the pipeline: nobody accounts for it")
        step.done()
    if list(pixels) != [key for key in _PIXELS if key in pixels]:
        raise ValueError(f"steps that change pixels: expected the order {_PIXELS}, got {tuple(pixels)}")
    return {**found, "pixels": pixels} if pixels else found


def _pixels(transform: Node) -> Json:
    """A transform of Albumentations, its values written out."""
    kind = transform.take("type")
    values: Json = {"prob": transform.take("p")}
    if kind in ("Blur", "MedianBlur"):
        found = {{"Blur": "blur", "MedianBlur": "median_blur"}[kind]: values}
    elif kind == "CoarseDropout":
        ranges = {
            ours: [transform.take(f"min_{theirs}"), transform.take(f"max_{theirs}")]
            for ours, theirs in (("count", "holes"), ("height", "height"), ("width", "width"))
        }
        whole = all(isinstance(value, int) for value in (*ranges["height"], *ranges["width"]))
        found = {"holes": {**values, **ranges, "unit": "pixel" if whole else "crop"}}
    elif kind == "GridDropout":
        transform.require(random_offset=True)
        unit = [transform.take("unit_size_min"), transform.take("unit_size_max")]
        found = {"grid": {**values, "unit": unit}}
    else:
        raise ValueError(f"transform {kind}: nobody accounts for it")
    transform.done()
    return found


def _hook(hook: Node, codec: Json | list[Json], train: Json) -> None:
    kind = hook.take("type")
    if kind == "EMAHook":
        hook.require(ema_type="ExpMomentumEMA", update_buffers=True)
        hook.ignore("priority")
        train["ema"] = {"decay": 1 - hook.take("momentum"), "ramp": "exponential", "buffers": True}
    elif kind == "mmdet.PipelineSwitchHook":
        first, epochs = hook.take("switch_epoch"), train["epochs"]
        later = _augment(hook.take("switch_pipeline"), codec)
        if first >= epochs:  # as above
            hook.done()
            return
        train["phases"] = [{"share": first}, {"share": epochs - first, "augment": later}]
    elif kind != "SyncBuffersHook":  # which only concerns several GPUs
        raise ValueError(f"hook {kind}: nobody accounts for it")
    hook.done()


def _evaluation(row: Json) -> Json:
    """What is measured, where it is not what the data set's metric does anyway; on which boxes, the user's data say."""
    configs = row["val_evaluator"] if isinstance(row["val_evaluator"], list) else [row["val_evaluator"]]
    kinds = [config["type"] for config in configs]
    if kinds in _OWN_METRICS:  # whose lengths and thresholds are the data set's
        return {}
    (metric,) = (Node(config, config["type"]) for config in configs)
    metric.ignore("ann_file", "prefix")
    kind = metric.take("type")
    found: Json = {"metric": _METRICS[kind]}
    if kind == "JhmdbPCKAccuracy":
        metric.require(thr=0.2, norm_item=["bbox", "torso"])
    if metric.take("iou_type", "keypoints") == "keypoints_crowd":
        found["metric"] = "crowdpose_ap"
    for ours, theirs in (("score_mode", "score_mode"), ("nms", "nms_mode"), ("use_area", "use_area")):
        value = metric.take(theirs, None)
        if value is not None:
            found[ours] = value
    metric.done()
    return found


def read_distillation(distiller: Node) -> Json:
    """The part `distill` of a recipe.

    Args:
        distiller: the network of a distilled row; what it says of the student stands in the student's row.

    Returns:
        The part; `teacher` is the name of a configuration. The second stage's is the one of its first stage, of which
        no weights were published.
    """
    distiller.require(type="DWPoseDistiller")
    distiller.ignore("student_cfg", "data_preprocessor", "train_cfg")
    second, weights = distiller.take("two_dis", False), distiller.take("teacher_pretrained")
    teacher = PurePosixPath(distiller.take("teacher_cfg")).stem
    found: Json = {"teacher": teacher, "weights": weights}
    # The second stage computes the labels' loss, but does not add it. The folder of its teacher has the name of the
    # first stage's configuration, or of one that was renamed.
    if second:
        found = {"teacher": weights.split("/")[1], "labels": 0.0, "fade": False, "head_only": True}
    for group in distiller.take("distill_cfg"):
        for config in group["methods"]:
            method = Node(config, config["type"])
            method.require(use_this=True)
            kind = method.take("type")
            if kind == "FeaLoss":
                method.require(name="loss_fea")
                method.ignore("student_channels", "teacher_channels")  # the networks'
                found["features"] = method.take("alpha_fea")
            elif kind == "KDLoss":
                method.require(name="loss_logit")
                found["logits"] = method.take("weight")
            else:
                raise ValueError(f"distillation {kind}: nobody accounts for it")
            method.done()
    distiller.done()
    return found


def _dsnt_maps(loss: Node) -> str:
    """The loss of the maps beside that of the coordinates, which is smooth L1."""
    loss.require(type="MultipleLossWrapper")
    points, maps = (Node(config, config["type"]) for config in loss.take("losses"))
    points.require(type="SmoothL1Loss", use_target_weight=True)
    maps.require(use_target_weight=True)
    kind: str = maps.take("type")
    for node in (loss, points, maps):
        node.done()
    return kind


def _kl(loss: Node) -> Json:
    """Values of the divergence that differ from those of the codec."""
    found = {}
    for name, default in (("beta", 1.0), ("label_softmax", False), ("label_beta", 10.0), ("mask_weight", 1.0)):
        value = loss.take(name, default)
        if value != default:
            found[name] = value
    mask = loss.take("mask", None)
    return {**found, "mask": mask} if mask else found


def _loss(training: Training, row: Json, stages: int) -> Json:
    """The part `loss`, where it is more than what a network's head and codec call for by themselves."""
    losses = training.loss if isinstance(training.loss, list) else [training.loss]
    head = row["model"]["head"]["type"]
    if len(losses) not in (1, stages) or (training.levels is not None and len(training.levels) != stages):
        raise ValueError(f"{head}: {len(losses)} losses for {stages} output stages")
    combined = training.decoder.get("heatmap_type") == "combined"
    natural = {
        "CPMHead": "KeypointMSELoss",
        "HeatmapHead": "CombinedTargetMSELoss" if combined else "KeypointMSELoss",
        "RLEHead": "RLELoss",
        "DSNTHead": "MultipleLossWrapper",
        "RTMCCHead": "KLDiscretLoss",
        "RTMWHead": "KLDiscretLoss",
        "RegressionHead": "SmoothL1Loss",
        "SimCCHead": "KLDiscretLoss",
        "ViPNASHead": "KeypointMSELoss",
        "VisPredictHead": "BCELoss",
    }
    found: list[Json] = []
    for i, config in enumerate(losses):
        loss = Node(config, config["type"])
        if head == "DSNTHead":
            return {"loss": {"kind": "mse"}} if _dsnt_maps(loss) == "KeypointMSELoss" else {}
        loss.require(use_target_weight=True)
        kind, weight = loss.take("type"), loss.take("loss_weight", 1.0)
        if head == "MSPNHead":
            stage = {"weight": weight, "kernel_size": row["codec"][training.levels[i]]["kernel_size"]}  # type: ignore[index]
            if kind == "KeypointOHKMMSELoss":
                stage["hardest"] = loss.take("topk", 8)
            elif kind != "KeypointMSELoss":
                raise ValueError(f"loss {kind} of {head}: nobody accounts for it")
            found.append(stage)
        elif kind != natural[head] and (head, kind) not in _OTHER_LOSSES:
            raise ValueError(f"loss {kind} of {head}: nobody accounts for it")
        elif head == "VisPredictHead":
            loss.require(use_sigmoid=True)
            loss.done()
            return {"loss": {"visibility": weight}}
        elif weight != 1.0:
            raise ValueError(f"loss {kind} of {head}: expected the weight 1, got {weight}")
        elif kind == "KLDiscretLoss":
            # There the crops of a GPU are added up, here they are averaged.
            options = _kl(loss)
            loss.done()
            return {"loss": {"weight": row["train"]["batch_size"], **({"options": options} if options else {})}}
        elif kind != natural[head]:
            loss.done()
            return {"loss": {"kind": _OTHER_LOSSES[head, kind]}}
        loss.done()
    return {"loss": {"stages": found}} if found else {}
