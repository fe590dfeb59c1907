"""Why each run-time check matters, and where to look when it fails."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Advice:
    """One sentence on what goes wrong unnoticed without the check, and what to look at first."""

    why: str
    mend: str


ADVICE: dict[str, Advice] = {
    "RUN001": Advice(
        "An operator that nobody reviewed may solve, synchronise or leave the graph, and nothing else says so.",
        "Take it out of `ris_pipeline.training.loop.Trainer.train_step`; where it is harmless, accept it with --accept-ops and have the "
        "change of audits/runtime/allowed_ops.json reviewed.",
    ),
    "RUN002": Advice(
        "A solve on every batch costs cubic time and gives gradients that explode where the matrix is nearly singular.",
        "Solve once when the data is made, in `ris_pipeline.back_projection`, and read the stored factor; in the step use a factored form.",
    ),
    "RUN003": Advice(
        "A tensor that the host reads makes every step wait for the device, and a value that went through NumPy has no gradient.",
        "Keep the value a tensor in `ris_pipeline.training.loop.StepReport` and read it every `train.log_every` steps.",
    ),
    "RUN004": Advice(
        "If watching changes the step, or the step does not repeat, what was observed is not what trains.",
        "Draw every random number of the step from a generator that is seeded by `train.seed`, and keep no state between steps outside "
        "the network and the optimizer.",
    ),
    "RUN005": Advice(
        "A frozen or forgotten parameter leaves a run that looks healthy and learns less than it could.",
        "Look at the groups in `ris_pipeline.training.optim.parameter_groups`, and for a detach or a skipped head in "
        "`ris_pipeline.model.network.HybridModel`.",
    ),
    "RUN006": Advice(
        "A term without gradient is reported and weighted like the others, but nothing follows it.",
        "Look for a detach or a rounding in the term's function in `ris_pipeline.losses`, and at its weight in "
        "`ris_pipeline.losses.term_weights`.",
    ),
    "RUN007": Advice(
        "An optimizer that steps seldom trains on a fraction of the data that was paid for.",
        "Call `ris_pipeline.training.optim.guarded_step` once for each batch, under no condition of the host's.",
    ),
    "RUN008": Advice(
        "Selection by the loss, under the name of the score, returns another model than the one that was asked for.",
        "Compare what `ris_pipeline.training.loop.Trainer.primary` gives for `train.val_primary`, in selection, in stopping and in "
        "what fit() returns.",
    ),
    "RUN009": Advice(
        "A score that the stored weights do not reach cannot be reproduced by anyone who loads them.",
        "Store the weights of the epoch that was scored (`ris_pipeline.model.weights.save_model`) with that epoch's objective, and look at "
        "`ris_pipeline.metrics.selection_score` where only the recomputed composite differs.",
    ),
    "RUN010": Advice(
        "Who goes on with the network after fit() would use the last epoch's weights and report the best one's score.",
        "Load the best checkpoint back at the end of `ris_pipeline.training.loop.Trainer.fit`.",
    ),
    "RUN011": Advice(
        "One scene with an infinite label would make every weight not a number, and the run is lost.",
        "Report every term in `ris_pipeline.training.loop.StepReport` and let `ris_pipeline.training.optim.guarded_step` mask the update "
        "where one is not finite.",
    ),
    "RUN012": Advice(
        "A network that does not read an input gives the same answer whatever was measured.",
        "Look at what `ris_pipeline.model.features.PursuitFeatures` and `ris_pipeline.model.network.HybridModel` do with the input "
        "that is named.",
    ),
    "RUN013": Advice(
        "A schedule in the wrong unit ends near its peak or at once, and the run is worse without an error.",
        "Call `ris_pipeline.training.optim.learning_rate` with the step and the number of all steps, before each step; see "
        "`train.learning_rate`, `train.warmup_fraction` and `train.final_lr_fraction`.",
    ),
    "RUN014": Advice(
        "What autograd derives runs on every batch, and is written nowhere in the source.",
        "Go to the source line beside the operator; replace what breaks the graph by tensor operations, or have the operator reviewed as "
        "for RUN001.",
    ),
    "RUN015": Advice(
        "One witness can be blind; three that disagree say which proof is not to be trusted.",
        "See RUN001, RUN014 or `python -m audits static --explain HOT001`, whichever is named, and mend that one first.",
    ),
    "RUN016": Advice(
        "An inverse that is written out by hand has the cost and the instability of a solver, and no name to be found by.",
        "Move it to `ris_pipeline.back_projection`, or use Gram matrices of the factors "
        "(`ris_pipeline.covariance.FactoredCovariance.gram`).",
    ),
    "RUN017": Advice(
        "A second builder makes training and inference see different covariances.",
        "Call `ris_pipeline.covariance.build_effective_covariance` with the option that is needed instead.",
    ),
    "RUN018": Advice(
        "Validation scenes in the training set, or scenes that are left out, make every score wrong.",
        "Look at the order of the batches in `ris_pipeline.training.loop.Trainer.fit` and validate(), and at the rows that "
        "`ris_pipeline.shards.open_split` gives.",
    ),
    "RUN019": Advice(
        "A run that cannot be repeated cannot be compared with the one after a change.",
        "Draw from generators that are seeded by `train.seed`, never from global state, and store everything that a resumed run needs in "
        "`ris_pipeline.training.checkpoint.save_last`.",
    ),
    "RUN020": Advice(
        "Ties, negative values and the last epoch before patience ends are where selection goes wrong unseen.",
        "Compare strictly (`objective < best`) in `ris_pipeline.training.loop.Trainer.fit`, start from infinity, and count "
        "`train.patience` from the best epoch.",
    ),
    "RUN021": Advice(
        "A training that cannot learn 64 scenes by heart learns nothing from 100,000.",
        "See RUN005, RUN006 and RUN012 first; then `train.learning_rate`, the weights in `loss.k` and its neighbours, and the targets in "
        "`ris_pipeline.losses`.",
    ),
    "RUN022": Advice(
        "A search that is told another number, or scores another set, than it claims chooses the wrong configuration.",
        "Look at what `ris_pipeline.hpo.objective` returns, at `ris_pipeline.hpo.subset_sizes` and `hpo.subset_fraction`, and make changed "
        "copies of the configuration, never changes.",
    ),
    "RUN023": Advice(
        "A loss with a preference of its own pulls the network away from the truth.",
        "Look at the term that is named in `ris_pipeline.losses`: its matching, its units and its target.",
    ),
    "RUN024": Advice(
        "Two shards of one stream hold the same scenes, and a test on scenes that were trained on proves nothing.",
        "Derive the seed of each shard from `data.seed`, split and index in `ris_pipeline.shards.manifest.ShardPlan` and "
        "`ris_pipeline.shards.manifest.split_seed`.",
    ),
    "PATH001": Advice(
        "A check of a path that never ran would pass on nothing.",
        "Call the consumer where the path says so (`ris_pipeline.model.network.HybridModel.forward`, "
        "`ris_pipeline.evaluation.localize.localize`), with the whole batch.",
    ),
    "PATH002": Advice(
        "Eigenvalues of a matrix that is not Hermitian are not what MUSIC and the K-head take them for.",
        "Pass on the factored result of `ris_pipeline.covariance.build_effective_covariance` as it is, and look for infinite factors.",
    ),
    "PATH003": Advice(
        "Loading and shrinkage are relative to trace N; with another trace they are of another size.",
        "Do not scale what `ris_pipeline.covariance.build_effective_covariance` returned, and give it target_trace = N or nothing.",
    ),
    "PATH004": Advice(
        "A negative eigenvalue is no power, and a logarithm or a root of it is not a number.",
        "Keep `covariance.beta` and the shrinkage weights within 0 and 1, and subtract nothing from what "
        "`ris_pipeline.covariance.build_effective_covariance` returned.",
    ),
    "PATH005": Advice(
        "Shrinkage applied twice, or to one side, changes every estimate by a few per cent and raises no error.",
        "Pass `covariance.beta`, `covariance.diagonal_loading` and `covariance.shrinkage` to the builder once, as "
        "`ris_pipeline.model.network.HybridModel` does, with the SNR of the same scenes.",
    ),
    "PATH006": Advice(
        "A K-head that is trained on one covariance and used on another counts wrongly.",
        "Give training and `ris_pipeline.evaluation.localize.localize` the same options from the same configuration.",
    ),
    "PATH007": Advice(
        "Gradient through the sample trains on the data's noise; no gradient to the prediction trains nothing.",
        "Detach the sample, and only the sample, in `ris_pipeline.training.loop.Trainer.blend` and "
        "`ris_pipeline.covariance.build_effective_covariance`.",
    ),
    "PATH008": Advice(
        "A copy that someone built beside the builder agrees today and differs after the next change.",
        "Hand the object that `ris_pipeline.covariance.build_effective_covariance` returned to the consumer that is named.",
    ),
    "DATA001": Advice(
        "A split that is smaller than it says gives scores with other error bars than those that are printed.",
        "Run `ris generate` for the folder again, which makes what is missing; compare `data.n_train`, `data.n_val` and `data.n_test`.",
    ),
    "DATA002": Advice(
        "A shard that was changed after it was made is not the data that the manifest and the results name.",
        "Delete the shard and run `ris generate` again, or copy it anew from where it came.",
    ),
    "DATA003": Advice(
        "A scene that is in training and in test makes the test say nothing.",
        "Look at `ris_pipeline.shards.manifest.split_seed`, and at files that were copied or renamed; then generate the data anew.",
    ),
    "DATA004": Advice(
        "Labels in degrees, or clipped at an end, are learned as they are and never raise an error.",
        "Look at `ris_pipeline.simulation.draw_sources` and at the limits `scene.azimuth_max_deg`, `scene.elevation_max_deg`, "
        "`scene.range_min_m` and `scene.range_max_m`.",
    ),
    "DATA005": Advice(
        "Shrinkage, bounds and every plot over the SNR use the stored value.",
        "Scale the noise in `ris_pipeline.simulation.simulate` by the power of the clean snapshots of the same scene.",
    ),
    "DATA006": Advice(
        "A sample factor of zeros, or of other snapshots, takes the measurement out of the blend without a word.",
        "Look at `ris_pipeline.back_projection` and `back_projection.ridge`; generate the data anew, or set `data.store_sample` to false.",
    ),
    "DATA007": Advice(
        "A K-head that was trained on one count more than on others is partial to it.",
        "Look at the draw of K in `ris_pipeline.simulation.draw_sources`, and at `scene.k_min` and `scene.k_max`.",
    ),
    "DATA008": Advice(
        "One value that is not a number stops a training run hours after it began.",
        "Look at the tensor that is named in `ris_pipeline.shards.write.shard_tensors`, and at zero powers and infinite ranges; then "
        "generate the data anew.",
    ),
    "DATA009": Advice(
        "Scenes that are missing at one side are errors there that no average shows.",
        "Look at the intervals in `ris_pipeline.simulation.draw_sources` and `ris_pipeline.channel.uniform`: whole widths, radians.",
    ),
    "DATA010": Advice(
        "Every bound and every estimate assumes the model's powers, fresh symbols and beams.",
        "Look at `ris_pipeline.channel.rician_channel`, `ris_pipeline.simulation.draw_symbols` with `scene.symbols`, and "
        "`ris_pipeline.codes` with `codes.selection`.",
    ),
}
