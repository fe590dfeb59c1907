"""The manual of the run-time checks. Codes are stable: a code is never given a second meaning."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """What one check claims, how it looks, and what it cannot see."""

    title: str
    text: str


MANUAL: dict[str, Check] = {
    "RUN001": Check(
        "only reviewed operations ran in the training step",
        """\
One real step of the real trainer (forward, loss, backward, optimizer) runs under a dispatch mode, which names every operator that
reaches the dispatcher, and again under torch.profiler, which also sees other threads, custom operators, composite operators and
the nodes of the autograd graph. Each name must be in audits/runtime/allowed_ops.json. The step is repeated for several
configurations. An operator that is new and harmless is added with `python -m audits runtime --accept-ops`; the change is reviewed
like source.
Limits: operators of configurations that the audit does not run; work outside torch (see RUN003).""",
    ),
    "RUN002": Check(
        "no solver ran in the training step",
        """\
No operator, autograd node or device kernel of the step solves, inverts or factorises a matrix, or has a backward that does:
lstsq, solve*, inv*, pinv*, cholesky*, lu*, ldl*, triangular solves, qr, eig, det. eigh and eigvalsh are not solvers. A solver
cannot be accepted into the list of RUN001; a list that holds one fails here. The profiler watches a whole run of fit() as well, batches
and checkpoints included, with a validation that does nothing.
Limits: a solver without a name, written out in elementary operations (see RUN016).""",
    ),
    "RUN003": Check(
        "nothing left the device graph during the step",
        """\
A function mode and a profile function watch the step for tensors read by the host (item, tolist, numpy, cpu, float, int, bool, to
a CPU device) and for calls into NumPy or SciPy, in every Python thread that the step starts, and for prints. Each is reported
with the function that did it; the few exceptions are listed with their reasons in audits/runtime/allowed_ops.json. The reads that
torch.profiler counts must be explained by those that were seen, so that one from C++ or from another thread shows too.
Limits: on the CPU, a copy to the CPU through `Tensor.to` is not distinguishable from no copy.""",
    ),
    "RUN004": Check(
        "watching the step changes nothing, bit for bit",
        """\
The same step, from the same weights on the same batch, is taken twice without witnesses and once under each witness. Parameters,
loss terms and optimizer state must be identical bit for bit; otherwise what was witnessed is not what runs in training, or
training does not repeat itself.""",
    ),
    "RUN005": Check(
        "every parameter is optimised once, gets a gradient and moves",
        """\
After a second real step every trainable parameter must be in exactly one group of the optimizer, once, have a finite gradient that is
not all zero, and differ from what it was. The step's gradients must be those of the weighted sum of the loss terms, clipped as
configured, to 1e-3, and the move must go against them. Catches frozen heads, parameter groups that miss a module, gated optimizer
steps, gradients that are never cleared and detached branches.""",
    ),
    "RUN006": Check(
        "every weighted loss term drives the network",
        """\
On a real batch each term whose weight is not zero must be finite, not negative, and have a non-zero gradient with respect to the
parameters, and the total must be the sum of weight times value with the weights of the configuration.""",
    ),
    "RUN007": Check(
        "the optimizer steps once per batch",
        """\
A two-epoch (or longer) run of fit() is counted by hooks on the optimizer: steps = epochs x ceil(scenes / batch size), the
optimizer's own step counters agree, and the weights differ between any two consecutive steps.""",
    ),
    "RUN008": Check(
        "best epoch, objective and stopping follow the configured primary",
        """\
A run with val_primary = k_loc is made (over a few seeds) in which the epoch with the lowest loss is not the epoch with the best
composite score. In it, the objective of each epoch must be the composite of that epoch's metrics (recomputed here from its
formula), the returned objective their minimum, the best epoch where that minimum is, and the number of epochs what patience on
the objective gives. A run in which loss and composite agree proves nothing and fails. A run with val_primary = loss must return
the lowest loss.""",
    ),
    "RUN009": Check(
        "the stored checkpoint scores the returned objective",
        """\
The best checkpoint is loaded from disk, the validation split is opened anew from its shards and located with it, and the
composite is recomputed by an independent implementation (matching, clipping, success). It must equal the objective that fit()
returned, and the one recorded beside the weights, to 1e-6. Because the network of a small run is never right, the library's composite
is compared with the independent one as well on estimates made from the truth: exact, slightly off, far off, one source too many or too
few, in another order.""",
    ),
    "RUN010": Check(
        "the network that fit() leaves behind is the stored best",
        """\
After fit() each tensor of the trainer's network equals the stored best checkpoint bit for bit.""",
    ),
    "RUN011": Check(
        "a step that is not finite leaves the weights alone",
        """\
A batch with an infinite power among its labels, hence a covariance term that is not finite, goes through the real training step, and
another one with an infinite range, hence such a position term. Every parameter must be what it was, bit for bit, and the step must
report that term as not finite.
Limits: other ways to lose finiteness; a network whose activations overflow fails in the eigenvalues of its K-head.""",
    ),
    "RUN012": Check(
        "every input changes the prediction",
        """\
Snapshots, channel, sample factor and noise variance of the real network's input are changed one at a time, and the codes are moved
against the snapshots. Each change must change the network's outputs; an input that changes nothing is not read.
Limits: the network is as initialised; how much a trained network relies on an input is not measured.""",
    ),
    "RUN013": Check(
        "the learning rate follows its schedule step by step",
        """\
The rate of each optimizer step of a whole run is recorded by a hook. It must rise to the configured peak and fall with every step
after it, to less than half the peak. A schedule that is sized in batches and stepped per epoch, or the reverse, shows.""",
    ),
    "RUN014": Check(
        "the graphs of the training step hold only reviewed operators",
        """\
A child process, without the import hook of the tests, compiles forward and loss with fullgraph=True and keeps the graphs that
AOTAutograd makes of them, forward and backward, for eight configurations in which every pair of flags (beta, shrinkage, loading,
heads, sample, noise variance, training) takes all its values. Each operator, with its source line, must be in
audits/runtime/allowed_ops.json and be no solver, and the compiled loss must be the loss of the code. train_step as a whole is
compiled too, optimizer included; it cannot be one graph, since torch itself breaks it in three places: zero_grad is not traced,
backward() starts AOTAutograd's own graph, and torch.optim puts a break around its update. Any other break fails.
Limits: a small surface and at most two sources; branches that none of the eight configurations takes.""",
    ),
    "RUN015": Check(
        "the three witnesses agree",
        """\
The operators that ran (RUN001), the operators in the graphs (RUN014) and the static proof HOT001 of each entry point are put side by
side: none may show a solver, both run-time sets must lie inside the list, each must have seen something, and every entry point must
be proved. The table [tool.audits] is read from the folder that holds the package.""",
    ),
    "RUN016": Check(
        "no tensor of the step solves a linear system",
        """\
Every matrix that enters or leaves an operator of a small step, with and without stored samples, is kept with its age. For each square
matrix R of side 4 or more that is neither unitary, nor a multiple of I, nor singular, no younger X may satisfy R X = c I, nor R X = c Y
with Y older than X (cosine of 0.999 with the exact solution, residual below 5 %); R, X and Y also transposed. This finds an inverse
that has no name: Gauss-Jordan, Newton-Schulz, conjugate gradients, an inverse made in NumPy, in a thread or in a custom operator. A
tensor that only scales, copies or transposes an earlier one has its age.
Limits: sides below 4; systems whose matrix never is a tensor; solutions stored in another layout than [..., n, k] or [..., k, n].""",
    ),
    "RUN017": Check(
        "no covariance is made outside the builder",
        """\
Among the tensors of the same step, made while build_effective_covariance is not running, none may be N x N, Hermitian and of trace N,
or the result of arithmetic with the shape of a factor [N, r] and the power N. The labels' powers are scaled to 1.7 beforehand, so that
a true covariance does not have trace N by itself. Consumers that are fed by something else than the builder fail in PATH008.
Limits: a covariance that is neither normalised nor dense.""",
    ),
    "RUN018": Check(
        "each epoch trains on every training scene and scores every validation scene, once",
        """\
A real fit() is observed: the batches that train_step got, the measurements that the network saw in validation, and the labels that
were scored, as hashes per scene. They must be the scenes of the split's files, read without the library, each exactly once per epoch,
and no validation scene may be a training scene.""",
    ),
    "RUN019": Check(
        "a seed gives the same run, bit for bit",
        """\
Three runs on the CPU: one, the same with another global random state of torch, NumPy and random, and one that is interrupted after an
epoch and resumed from its folder. Weights, optimizer state and log, throughput apart, must be identical.""",
    ),
    "RUN020": Check(
        "selection follows the primary in scripted runs",
        """\
fit() trains for real, but validations say what a script says: composite and loss best in different epochs, ties, values below zero, an
improvement just before patience ends, either primary. Returned objective, best epoch, metrics, number of epochs, log, checkpoint
weights, checkpoint record and the network left behind must all be those that the primary selects. Metrics that are not a number must
stop the run, whatever the loss is.""",
    ),
    "RUN021": Check(
        "training learns a small set by heart",
        """\
fit() on 64 scenes of a small surface at high SNR: the loss on these scenes must fall at least tenfold, and the K-head must be right at
least 25 points more often than always answering the commonest count.""",
    ),
    "RUN022": Check(
        "a search returns what its trials scored and how",
        """\
A real two-trial study runs in a temporary folder from a base configuration that asks for val_primary = loss. Checked: each value is
what fit() returned and what the trial's network scores on the first fraction of the validation files (recomputed independently), the
objective of every epoch was reported to the pruner, sizes are fraction x manifest, every drawn key reached the trainer as drawn and
nothing else changed, the base configuration and the defaults have the same digest after each trial, the direction is to minimize, the
lowest value is returned, and best.toml over the base gives the best trial's configuration.""",
    ),
    "RUN023": Check(
        "the loss obeys its laws",
        """\
Through the trainer's own loss: a perfect prediction costs nothing (covariance, count, position, steering), the order in which sources are
listed changes nothing, every coordinate has gradient wherever in the domain the estimate is, the same error in units of its norm costs
the same in azimuth, elevation and range, the true count is the cheapest sure answer, and the cell that holds a source the cheapest.
Limits: laws, not values; a term that is scaled as a whole passes.""",
    ),
    "RUN024": Check(
        "no two shards of the full data set share a random stream",
        """\
The plan of the default data set, cut into one scene per shard, must have a different stream for each, in the 32 bits that torch reads,
and the splits different seeds. Every DATA check is made as well on two data sets that the library generates now: one with one scene in
each of 528 shards, so that splits whose seeds overlap after some hundred scenes show, and one with 1800 scenes in five.""",
    ),
    "PATH001": Check(
        "every covariance consumer was observed",
        """\
Real training steps and real localizations run under an observer that sees each call of a consumer by the code that runs: K-head
(training and inference), training blend, both sides of the covariance loss, eigenvalue rule, MUSIC (methods music and hybrid). A
path for which no covariance, or one for fewer scenes than were given, was seen fails: nothing is concluded from a covariance that
the audit built itself.""",
    ),
    "PATH002": Check(
        "what each consumer received is Hermitian and finite",
        """\
The observed matrix F F^H + delta I, formed in double precision, equals its adjoint to 1e-6, every entry finite, and so is what
its own dense() returns.""",
    ),
    "PATH003": Check(
        "what each consumer received has trace N",
        """\
The trace of the observed matrix is N to 1e-5 relative, for every scene.""",
    ),
    "PATH004": Check(
        "what each consumer received is positive semidefinite",
        """\
The smallest eigenvalue of the observed matrix is not below -1e-6 N, and its diagonal part is not negative.""",
    ),
    "PATH005": Check(
        "what each consumer received is what the specification says",
        """\
The observed matrix equals, to 1e-5 in relative Frobenius norm, a dense double-precision computation in NumPy that imports nothing
from the library: trace N, blend, loading, shrinkage, trace N, from the network's observed factor, the stored sample factor and
the labels. Catches shrinkage or loading applied twice or to one side only, a blend that is skipped or made with another weight, a
wrong SNR, a target that is not normalised, R R^H for R. Without a sample, and with beta = 0, the prediction must stand alone.""",
    ),
    "PATH006": Check(
        "paths with the same options received the same covariance",
        """\
For the same scenes and weights the K-head in training, the prediction side of the loss, the K-head in localization, the
eigenvalue rule and MUSIC of the hybrid method must have received the same matrix to 1e-5; and both sides of the loss must be the
observed training blends after loading and shrinkage.""",
    ),
    "PATH007": Check(
        "the gradient reaches the prediction and never the sample",
        """\
In the real training step the sample factor is made to ask for a gradient; it must get none. The covariance on the prediction side
of the loss, the blend and the K-head's covariance must each receive a finite gradient that is not all zero; the target side must
need none.""",
    ),
    "PATH008": Check(
        "what each consumer received came from the builder",
        """\
Each observed covariance must be an object that build_effective_covariance returned during the same run, or share its storage.""",
    ),
    "DATA001": Check(
        "shards hold what the manifest says",
        """\
Every shard of the manifest exists, is readable and has the recorded number of scenes, names, shapes and types, and each split has
its configured size.""",
    ),
    "DATA002": Check(
        "shards have their recorded checksum",
        """\
The SHA-256 of every shard file equals the manifest's.""",
    ),
    "DATA003": Check(
        "no scene is shared within or between splits",
        """\
An exact hash of positions and of the channel of every scene; any two equal hashes are reported with their places. The recorded
seeds of the splits differ.""",
    ),
    "DATA004": Check(
        "labels are in range and in their units",
        """\
Azimuth, elevation, range, K, SNR and codes lie in the configured intervals (radians, metres, decibels); empty slots are zero;
powers follow p ~ r^(-2 (1 - power_control)) and sum to 1; no label piles up at an end of its interval, as clipping makes it.""",
    ),
    "DATA005": Check(
        "the stored SNR is the realised SNR",
        """\
Clean power recomputed in NumPy from stored symbols, channel, codes and positions, over the stored noise variance, equals the
stored SNR to 0.01 dB; the power of snapshots minus clean snapshots agrees with the noise variance within its
statistical error, in every scene and over each split as a whole.""",
    ),
    "DATA006": Check(
        "sample factors are what the snapshots give",
        """\
Every sample factor is finite and not all zero, equals the back-projection of the stored snapshots (recomputed in NumPy, snapshot
by snapshot) to 1e-3, and has trace N after the builder.""",
    ),
    "DATA007": Check(
        "K is spread as configured",
        """\
Counts of every K in k_min..k_max are within 6 standard deviations of the uniform distribution; the histogram is printed.""",
    ),
    "DATA008": Check(
        "measurements are finite",
        """\
No NaN or infinity in any tensor of any shard.""",
    ),
    "DATA009": Check(
        "labels fill their intervals evenly",
        """\
Kolmogorov's distance between azimuth, elevation, range and SNR and the uniform distribution over the configured interval; sqrt(n) D
must stay below 3.3, which chance exceeds once in 10^9. Catches clipped labels, a half-width taken for a width, degrees for radians.""",
    ),
    "DATA010": Check(
        "channel, symbols and codes are as the model says",
        """\
The mean powers of channel and symbols are 1 within 6 standard deviations; symbols are fresh in every snapshot, or one per scene, as
configured, and absent in empty slots; every code is a beam of the codebook (recomputed in NumPy, the sum of both phases quantised once),
and with balanced selection the scene shows exactly the balanced beams.""",
    ),
}
