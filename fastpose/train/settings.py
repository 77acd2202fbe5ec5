"""The groups of keys of a recipe, as validated data."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from ..data.augment import Augmentation
from ..data.labels import LabelCleaning
from ..data.readers import list_formats
from ..metrics import METRICS
from ..metrics.scoring import NmsMode, ScoreMode
from ..models import LossSettings

__all__ = [
    "DataSettings",
    "DistillSettings",
    "EmaSettings",
    "EvalSettings",
    "LogSettings",
    "ModelSettings",
    "OptimizerSettings",
    "ScheduleSettings",
    "Settings",
    "SourceSettings",
    "SwaSettings",
    "TrainSettings",
]

Size = tuple[Annotated[int, Field(ge=8)], Annotated[int, Field(ge=8)]]
Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


def _check_metric(name: str) -> str:
    if name not in ("auto", *METRICS):
        raise ValueError(f"expected one of auto, {', '.join(METRICS)}")
    return name


class Settings(BaseModel):
    """A group of keys: unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class ModelSettings(Settings):
    """The network.

    Attributes:
        name: Zoo name or architecture, as ``create_model`` takes it.
        skeleton: Name of the skeleton, or ``data``: that of the first source under ``data.train``; the zoo entry's
            where not given.
        options: Further arguments of ``create_model``: fields of the PoseSpec (``input_size``, ``udp``) and options of
            the architecture.
        codec: Fields of the codec that differ from the zoo entry's (``kind``, ``sigma``).
        pretrained: Start from the zoo entry's published weights; with other keypoints, from all but the entries that
            depend on the keypoints.
        backbone: A file or address of weights that the backbone starts from: a classifier's, or another pose network's.
        init: A saved model of the same architecture (safetensors) whose weights training starts from, relative to the
            working directory; of one for other keypoints, all but the entries that depend on those.
    """

    name: str
    skeleton: str | None = None
    options: dict[str, Any] = {}
    codec: dict[str, Any] = {}
    pretrained: bool = False
    backbone: str | None = None
    init: str | None = None

    @model_validator(mode="after")
    def _one_start(self) -> ModelSettings:
        if self.pretrained + (self.backbone is not None) + (self.init is not None) > 1:
            raise ValueError("expected one of pretrained, backbone and init")
        return self


class SyntheticSettings(Settings):
    """Scenes that the package renders itself, people with known joints.

    Attributes:
        scenes: Number of photos.
        people: People in each.
        size: (height, width) of a photo.
        seed: Of the first scene.
    """

    scenes: Count = 100
    people: Count = 2
    size: Size = (240, 320)
    seed: int = 0


class SourceSettings(Settings):
    """One set of annotated people: an annotation file, or rendered scenes.

    Attributes:
        annotations: The annotation file, or the folder or YAML file of a data set; relative to ``data.root``.
        format: As ``fastpose.data.read_annotations`` takes it; told from the file where not given.
        split: Which part of a data set that is in one place, as ``fastpose eval --split``; of a YAML file by default
            ``train`` under ``data.train`` and ``val`` under ``data.val``.
        images: Folder of the photos; relative to ``data.root``, which it is where not given (with a YAML file: the
            folder that it names).
        synthetic: Instead of a file.
        repeats: Times that each person is shown in an epoch; 0.5 shows a random half.
        teacher: A second opinion on the labels.
    """

    annotations: str | None = None
    format: str | None = None
    split: str | None = None
    images: str | None = None
    synthetic: SyntheticSettings | None = None
    repeats: Positive = 1.0
    teacher: LabelCleaning | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> SourceSettings:
        if (self.annotations is None) == (self.synthetic is None):
            raise ValueError("expected either annotations or synthetic")
        if self.synthetic is not None and (self.format or self.split or self.images or self.teacher):
            raise ValueError("format, split, images and teacher go with annotations, not with synthetic")
        if self.format is not None and self.format not in list_formats():
            raise ValueError(f"format: expected one of {', '.join(list_formats())}, got {self.format!r}")
        return self


class SkeletonSettings(Settings):
    """What annotation files cannot say of their keypoints; what is not given is as the file has it.

    Attributes:
        name: Short name.
        keypoints: The names to take, in this order.
        flip_pairs: Names that change places in a mirror; a file's are guessed from ``left`` and ``right`` in the names.
        links: Pairs of names that a drawing connects.
        sigmas: Of the OKS, one a keypoint, as COCO states them; 0.079 where nobody says.
        joint_weights: Of the loss, one a keypoint.
        lower_body: Names that half-body augmentation counts as the lower half.
    """

    name: str | None = None
    keypoints: list[str] | None = None
    flip_pairs: list[tuple[str, str]] | None = None
    links: list[tuple[str, str]] | None = None
    sigmas: list[Positive] | None = None
    joint_weights: list[Annotated[float, Field(ge=0)]] | None = None
    lower_body: list[str] | None = None


class DataSettings(Settings):
    """Where the people come from.

    Attributes:
        root: Folder that the other names are relative to; itself relative to the working directory. In a file that
            ``data=FILE`` names it is that file's folder where not given.
        train: Sources, mixed.
        val: What is validated on; none: nothing is, and the last weights are the best.
        detections: Boxes that a detector found in ``val`` (COCO's results format), cropped instead of the annotated
            ones (average precision only); relative to ``root``.
        skeleton: More about the keypoints of all sources than their files say.
        cache_gb: Gigabytes of decoded photos that all processes of a machine keep in memory together; by default half
            of what is free.
        reduce: Decode JPEGs to train on at 1/2, 1/4 or 1/8 where the crop shows no more. For large photos that do not
            fit into memory anyway: none are kept. The crops are smoother than prediction's, of the whole photo.
        workers: Threads that decode photos, in each process; by default two, and for a GPU up to 16, as many as there
            are processors for each process.
    """

    root: str = "."
    train: Annotated[list[SourceSettings], Field(min_length=1)]
    val: SourceSettings | None = None
    detections: str | None = None
    skeleton: SkeletonSettings | None = None
    cache_gb: Annotated[float, Field(ge=0)] | None = None
    reduce: bool = False
    workers: Count | None = None

    @model_validator(mode="after")
    def _kept_or_reduced(self) -> DataSettings:
        if self.reduce and self.cache_gb:
            raise ValueError(f"cache_gb: with reduce no photos are kept, expected 0 or none, got {self.cache_gb:g}")
        return self


class OptimizerSettings(Settings):
    """The optimizer.

    Attributes:
        name: Which.
        lr: Learning rate at the top of the schedule; of batches of ``train.base_batch_size`` where that is given.
        weight_decay: Of what the next three do not name.
        norm_decay: Factor on it for weights and biases of normalisation.
        bias_decay: Factor on it for all other biases.
        no_decay: Parts of names; a parameter whose name has one of them does not decay, whatever the factors say.
        layer_decay: Factor on the learning rate for each layer further from the output, as transformers that were
            trained before are fine-tuned (Bao et al., "BEiT", ICLR 2022); for networks that count their layers.
        betas: adam and adamw.
        momentum: sgd.
    """

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: Positive = 5e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    norm_decay: Annotated[float, Field(ge=0)] = 0.0
    bias_decay: Annotated[float, Field(ge=0)] = 0.0
    no_decay: list[str] = []
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    betas: tuple[Probability, Probability] = (0.9, 0.999)
    momentum: Probability = 0.9


class ScheduleSettings(Settings):
    """How the learning rate moves over the run; progress counts images, so phases of cheap and dear steps fit together.

    Attributes:
        kind: ``cosine`` falls to ``final`` along half a cosine, ``step`` is multiplied by ``factor`` at each milestone.
        warmup: Optimizer steps of linear growth from ``warmup_start`` times the rate; the last of them has all of it.
        warmup_start: Fraction of the rate at the first step.
        warmup_limit: Largest fraction of the run that warm-up takes; in a short run it is shortened to that.
        begin: Fraction of the run before the fall begins (cosine).
        final: Fraction of the rate at the end (cosine).
        milestones: Fractions of the run (step).
        factor: Multiplied in at each milestone (step).
    """

    kind: Literal["cosine", "step"] = "cosine"
    warmup: Annotated[int, Field(ge=0)] = 500
    warmup_start: Probability = 0.001
    warmup_limit: Probability = 0.2
    begin: Annotated[float, Field(ge=0, lt=1)] = 0.0
    final: Probability = 0.01
    milestones: list[Probability] = [170 / 210, 200 / 210]
    factor: Positive = 0.1


class EmaSettings(Settings):
    """Moving average of the weights, which is what is validated and saved.

    Attributes:
        decay: Part of the average that a step keeps.
        ramp: How it grows to that over the first steps, so that the random start is forgotten. ``hyperbolic``:
            (1 + step) / (10 + step) where that is less; ``exponential``: ``decay`` times
            1 - exp(-(1 + step) / ramp_steps), and the first step keeps nothing (MMPose's ExpMomentumEMA).
        ramp_steps: See there.
        buffers: Average running statistics too, instead of copying them.
    """

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    ramp: Literal["hyperbolic", "exponential"] = "hyperbolic"
    ramp_steps: Count = 2000
    buffers: bool = False


class SwaSettings(Settings):
    """Mean of the weights at the ends of the last epochs (Izmailov et al. 2018).

    Attributes:
        epochs: Last epochs of the run, each of which counts once.
        batches: Of training crops, from which BatchNorm's statistics are taken anew before the average is validated.
    """

    epochs: Count = 10
    batches: Count = 50


class DistillSettings(Settings):
    """Another network that is learnt from beside the labels.

    Yang et al., "Effective Whole-body Pose Estimation with Two-stages Distillation" (DWPose), 2023.

    Attributes:
        teacher: A zoo name, or a saved model (safetensors), relative to the working directory.
        weights: A file or address of the teacher's weights where they are not those of the zoo entry that it names.
        features: Factor on the squared difference of the feature maps that the heads get; those of the network are
            mixed by a 1x1 convolution first, trained with it, where it has another number of channels.
        logits: Factor on the divergence of the coordinate vectors from the teacher's, which both are sharpened by the
            ``beta`` of ``train.loss.options``.
        labels: Factor on the loss of the labels; 0 learns from the teacher alone.
        fade: Lower the factors of features and logits from epoch to epoch, to 0 at the end of the run.
        head_only: The second stage: backbone and neck are the teacher's and stay as they are, a head learns anew.
    """

    teacher: str
    weights: str | None = None
    features: Annotated[float, Field(ge=0)] = 0.0
    logits: Annotated[float, Field(ge=0)] = 0.0
    labels: Annotated[float, Field(ge=0)] = 1.0
    fade: bool = True
    head_only: bool = False

    @model_validator(mode="after")
    def _teaches_something(self) -> DistillSettings:
        if not self.features and not self.logits:
            raise ValueError("expected features, logits or both above 0")
        if self.head_only and self.features:
            raise ValueError(f"features: with head_only they are the teacher's, expected 0, got {self.features:g}")
        return self


class PhaseSettings(Settings):
    """A part of the run with its own input size.

    Attributes:
        share: Its share of the epochs, relative to the other phases' shares.
        input_size: (height, width) of the crops; the model's where not given. The heatmap keeps its ratio to it.
        batch_size: ``train.batch_size`` where not given.
        lr_factor: On the learning rate of the schedule.
        sigma: Of the target, heatmap pixels; the model's where not given.
        augment: Instead of the recipe's ``augment``.
    """

    share: Positive = 1.0
    input_size: Size | None = None
    batch_size: Count | None = None
    lr_factor: Positive = 1.0
    sigma: Positive | None = None
    augment: Augmentation | None = None


class TrainSettings(Settings):
    """The loop.

    Attributes:
        epochs: Of the whole run.
        batch_size: Crops that go through the network at once, in each process.
        accumulate: Batches whose gradients are added up for a step (the last step of an epoch may have fewer).
        base_batch_size: Crops in a step that ``optimizer.lr`` is for. With ``batch_size * accumulate`` crops, times the
            processes, instead it is multiplied by their ratio; null leaves it alone.
        phases: Parts of the run, in order; by default one.
        optimizer: See there.
        schedule: See there.
        ema: None trains without.
        swa: None trains without.
        clip_grad: Largest norm of the gradient; None does not clip.
        freeze: Shell-style patterns of parameter names (``backbone.*``) that are not trained; running statistics of
            frozen normalisation stay as they are.
        use_joint_weights: Multiply each label's weight by the skeleton's joint weight.
        loss: What is minimised: weights, hardest keypoints, stages.
        distill: A network to learn from beside the labels; None trains without.
        nan_limit: Stop after so many steps in a row without a finite loss and gradient; each is skipped.
        precision: ``auto`` follows from the device: bfloat16 on GPUs that have it and on CPUs with AMX, float16 on
            older GPUs, else float32, as in a deterministic run; ``--resume`` keeps it. ``float16`` scales the loss, by
            a factor that adapts, so that gradients do not vanish.
        grad_checkpointing: Recompute what is inside the network's blocks for the gradients: less memory, more time.
        sync_batchnorm: BatchNorm takes its statistics over the crops of all processes, not of each one.
        sharded: Each process keeps a part of weights, gradients and the optimizer's state only: for networks that are
            too large for one GPU.
        timeout: Minutes after which processes that wait for another one give it up.
        compile: Run the network through ``torch.compile``; where that fails, a line says why, and training goes on
            without.
        keep: Also save the model at every validation under its epoch's number, and keep the last so many.
        channels_last: Memory layout of the network.
        device: ``auto`` takes the GPU if there is one.
        seed: Of weights, order and augmentation.
        deterministic: Only algorithms that give the same result every time.
    """

    epochs: Count = 210
    batch_size: Count = 64
    accumulate: Count = 1
    base_batch_size: Count | None = None
    phases: Annotated[list[PhaseSettings], Field(min_length=1)] = [PhaseSettings()]
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    ema: EmaSettings | None = None
    swa: SwaSettings | None = None
    clip_grad: Positive | None = None
    freeze: list[str] = []
    use_joint_weights: bool = True
    loss: LossSettings = LossSettings()
    distill: DistillSettings | None = None
    nan_limit: Count = 20
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    grad_checkpointing: bool = False
    sync_batchnorm: bool = False
    sharded: bool = False
    timeout: Positive = 30.0
    compile: bool = False
    keep: Annotated[int, Field(ge=0)] = 0
    channels_last: bool = True
    device: str = "auto"
    seed: int = 0
    deterministic: bool = False

    @model_validator(mode="after")
    def _phases_fit(self) -> TrainSettings:
        if len(self.phases) > self.epochs:
            raise ValueError(f"phases: {len(self.phases)} phases do not fit into {self.epochs} epochs")
        if self.sharded and self.precision == "float16":
            raise ValueError("sharded: goes with precision float32 or bfloat16, not with the scaled loss of float16")
        if self.sharded and self.distill:
            raise ValueError("sharded: does not go with distill")
        if self.sharded and self.compile:
            raise ValueError("sharded: does not go with compile (torch fails to compile the gradients of a part)")
        return self


class EvalSettings(Settings):
    """Validation, at the input size of the phase; the best model is looked for where that is the model's own.

    Attributes:
        metric: A name of ``fastpose.metrics.METRICS``; ``auto`` is the one published for the data set.
        score_mode: What a pose's score is made of (average precision).
        nms: How doubles are suppressed (average precision).
        use_area: Take the annotated areas for the OKS; otherwise 0.53 of the annotated box.
        weights: Which are validated each time; the best of all becomes ``best.safetensors``. By default the averages
            that the recipe makes (``ema``, ``swa``), without any those that are ``trained``.
        every: Epochs between validations; the last epoch is always validated.
        patience: End the run after so many validations in a row that are no better than the best one.
        batch_size: Crops in a step.
        flip_test: Average with the mirrored crop; the model's setting where not given.
    """

    metric: Annotated[str, AfterValidator(_check_metric)] = "auto"
    score_mode: ScoreMode = "bbox_keypoint"
    nms: NmsMode = "oks_nms"
    use_area: bool = True
    weights: Annotated[list[Literal["trained", "ema", "swa"]], Field(min_length=1)] | None = None
    every: Count = 10
    patience: Count | None = None
    batch_size: Count = 64
    flip_test: bool | None = None


class LogSettings(Settings):
    """What is written down.

    Attributes:
        every: Steps between lines of the CSV file.
        tensorboard: Also write TensorBoard events.
    """

    every: Count = 20
    tensorboard: bool = False
