"""Fine-tuning for JAX: schedules, layer-wise optimizers and parameter averages for any pytree.

The functions work in any optax training loop and with any pytree of parameters: dicts, Linen parameters, NNX states,
Equinox modules. A name loads its module when it is first used, and no name but `load` loads a model, a tokenizer or
plotting code. `help` of each name gives arguments, units, errors, sources and an example.

Schedules: an `optax.Schedule` is a function from a step, counted from 0 in optimizer updates, to a () float32. Ours are
never negative, NaN or above their peak, hold their last value after the end, and start at the peak without a warm-up.
With a peak of 1 a schedule multiplies the rate of each group.

    slanted_triangular_schedule   ULMFiT's short rise and long decay
    warmup_linear_decay_schedule  linear warm-up, then linear decay from the peak, as transformers' "linear"
    bert_warmup_schedule          Google's BERT: decay counts from step 0, so that the rate drops after warm-up
    keras_bert_warmup_schedule    keras-bert's AdamWarmup: the same, its steps counted from 1
    swa_schedule                  any schedule, then the constant or annealed rate of weight averaging
    schedule_by_name              any of these, and transformers' names and one-cycle, by name
    SCHEDULE_NAMES                the names that it knows
    train_steps                   examples, batch size and epochs -> total and warm-up steps

Groups and rates: groups are names, ordered bottom (next to the input) to top; a rate of `None` freezes a group.

    label_params           ordered regular expressions on paths -> a group for every parameter, or a ValueError
    describe               a table of groups: rate, decay, parameters, which rule
    discriminative_rates   each group 2.6 times slower than the one above
    layerwise_decay_rates  each layer 0.9 times as fast as the one above, and a rate for the head
    decay_mask             which parameters decay: all but biases and LayerNorm, or by patterns

Optimizers: optax transformations; states are pytrees of arrays that can be jitted, scanned, donated and saved.

    discriminative             an optax optimizer with a rate per group and one clip; it skips steps that are not finite
    DiscriminativeState        its state
    applied_metrics            metrics of its last update: `lr/<group>`, `grad_norm`, `skipped`, `skipped_in_a_row`
    rescale                    sets a factor on all its rates, for `plateau`, without recompiling
    bert_adamw                 BERT's AdamW: no bias correction by default, epsilon outside the square root
    adam_warmup                keras-bert's AdamWarmup, schedule included
    scale_by_uncorrected_adam  the scaling that both use
    accumulate_gradients       gradients of a large batch, computed slice by slice and weighted by tokens

Averages of parameters in float32, kept beside the optimizer state: evaluate `value`, and continue training the raw
weights.

    Average  `init(params)`, `update(state, params, step)`, `value(state)`, `observe(state, loss)`
    ema      exponential moving average, corrected for its start
    swa      equal average of every k-th step from a start step on
    nt_asgd  AWD-LSTM's: starts once the losses given to `observe` stop improving

Monitors: fed once per evaluation, never per step; a state of arrays, to be saved with the run.

    Monitor             `init(...)` and `update(state, value)`
    plateau             lowers a rate when evaluations stop improving, as Keras' ReduceLROnPlateau
    PlateauState        its state; `rate` is the rate to train with
    early_stopping      says when to stop, as Keras' EarlyStopping
    EarlyStoppingState  its state; `stop` says whether to stop, `best_evaluation` which weights to keep

Plans: tuples of phases, plain data to print, draw and save before there is a model.

    Phase               groups and their rates, epochs, and a schedule that starts anew with it
    gradual_unfreezing  the top group alone, then one more below in each phase
    fastai_unfreezing   the last group, the last two, all, as in ULMFiT's own scripts
    chain_thaw          the top group, each other alone, then all
    last_layer          the top group and nothing else
    full                everything from the start
    format_plan         a plan as a table
    learning_rates      the rate of each group at each step of a plan, to draw
    phase_schedule      the schedule of a phase, for `discriminative`
    phase_at            the phase that a step of the run falls in, for a run that resumes
    migrate             the optimizer state for the next phase: groups that trained on keep their moments

The train step: it knows of a model only `loss_fn(params, carry, batch, key) -> (loss, (carry, metrics))`.

    TrainState       step, parameters, optimizer state, carry, average and key: a pytree to donate and save
    make_train_step  the pure step `(state, batch) -> (state, metrics)`, for the caller to jit

An example with two phases and ten steps per epoch:

    >>> from dataclasses import replace
    >>> import jax, jax.numpy as jnp, optax, jaxft
    >>> params = {"body": jnp.eye(2), "head": jnp.ones(2)}
    >>> labels = jaxft.label_params(params, [("body", "body"), ("head", "head")])
    >>> plan = jaxft.gradual_unfreezing(["body", "head"], peak_rate=0.1, final_epochs=2)
    >>> print(jaxft.format_plan(plan, steps_per_epoch=10))
    phase   epochs  steps     body  head  schedule
    last 1       1     10   frozen   0.1  slanted_triangular
    all          2     20  0.03846   0.1  slanted_triangular
    >>> def optimizer(phase):
    ...     schedule = jaxft.phase_schedule(phase, steps_per_epoch=10)
    ...     return jaxft.discriminative(optax.adam(1.0), labels, phase.rates, schedule, clip_norm=1.0)
    >>> def loss_fn(params, carry, batch, key):
    ...     return ((batch @ params["body"] @ params["head"] - 2.0) ** 2).mean(), (carry, {})
    >>> average = jaxft.swa(start_step=20)
    >>> state = jaxft.TrainState.create(params, optimizer(plan[0]), key=jax.random.key(0), average=average)
    >>> for before, phase in zip([None, *plan], plan):
    ...     tx = optimizer(phase)
    ...     if before is not None:
    ...         state = replace(state, opt_state=jaxft.migrate(state.opt_state, before, tx.init(state.params)))
    ...     step = jax.jit(jaxft.make_train_step(loss_fn, tx, average), donate_argnums=0)
    ...     for _ in range(10 * phase.epochs):
    ...         state, metrics = step(state, jnp.eye(2))
    >>> sorted(metrics)
    ['grad_norm', 'loss', 'lr/body', 'lr/head', 'skipped', 'skipped_in_a_row']
    >>> weights = average.value(state.average)  # to evaluate; state.params go on training
    >>> float(loss_fn(weights, (), jnp.eye(2), None)[0]) < 0.1  # it was 1
    True

The jobs are modules: `python -m jaxft` lists them.

    load  the finished model of a run, ready to predict
"""

import lazy_loader

__version__ = "0.2.0"

# The names and their modules stand in __init__.pyi.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
