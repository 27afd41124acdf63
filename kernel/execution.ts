/** Plans carried out: applied with rollback, and reverted. */
import { inverse, apply, looks } from './kinds/index.ts';
import type { Operation } from './kinds/kind.ts';
import type { KernelLog } from './linux.ts';
import { KernelError } from './kernel.ts';
import { perform } from './perform.ts';
import type { Done, Failure, Means, Task } from './perform.ts';
import { condense } from './plan.ts';
import { namespacesOf, runsOf } from './runs.ts';
import type { Plan, Step } from './step.ts';

/** How often a run is tried whose create message failed because a name was taken after we had looked. */
const ATTEMPTS = 3;

/** Called before each step, which then goes out alone, and after the last without one. */
export type BeforeStep = (step: Step | undefined, phase: 'apply' | 'revert') => void;

export class Execution {
  readonly #means: Means;
  readonly #log: KernelLog;
  readonly #beforeStep: BeforeStep | undefined;

  constructor(means: Means, log: KernelLog, beforeStep?: BeforeStep) {
    this.#means = means;
    this.#log = log;
    this.#beforeStep = beforeStep;
  }

  /** @throws KernelError of the step that failed, with everything undone that this call had done. */
  async apply(plan: Plan): Promise<void> {
    const done: Done[] = [];
    try {
      for (const run of runsOf(plan, this.#beforeStep !== undefined)) {
        this.#beforeStep?.(run[0], 'apply');
        await this.#applyRun(run, done);
      }
    } catch (error) {
      await this.#undo(done);
      throw error;
    }
    this.#beforeStep?.(undefined, 'apply');
  }

  async #applyRun(run: readonly Step[], done: Done[]): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      this.#means.session.look(run.flatMap(looks));
      const tasks = run.flatMap((step) => tasksOf(step, apply(step, this.#means.session)));
      const performed = await perform(tasks, this.#means);
      const [failure] = performed.failures;
      if (failure === undefined || attempt === ATTEMPTS || !wasRaced(failure)) {
        done.push(...performed.done);
        if (failure !== undefined) throw failure.error;
        return;
      }
      await this.#undo(performed.done);
    }
  }

  /** Take back what was done, last first, as well as it goes: the error that led here is the one to report. */
  async #undo(done: readonly Done[]): Promise<void> {
    let tasks: Task[] = [];
    for (const { task, undo } of done.toReversed()) {
      if (undo === 'inverse') {
        // It looks at what is there: what comes before must have happened.
        await this.#undoTasks(tasks);
        tasks = [...tasksOf(task.step, this.#inverse(task.step))];
      } else if (undo !== undefined) {
        tasks.push({ step: task.step, operation: undo });
      }
    }
    await this.#undoTasks(tasks);
    this.#means.session.forget();
  }

  async #undoTasks(tasks: readonly Task[]): Promise<void> {
    const { failures } = await perform(tasks, this.#means, true);
    for (const { step, error } of failures) {
      this.#log.debug({ step, error: error.message }, 'not undone, or gone already');
    }
  }

  #inverse(step: Step): readonly Operation[] {
    const { session } = this.#means;
    session.forget();
    session.look(looks(step).filter(({ netns }) => session.exists(netns)));
    return inverse(step, session);
  }

  /** @returns What could not be undone; the rest is. */
  async revert(plan: Plan): Promise<readonly Failure[]> {
    const failures: Failure[] = [];
    for (const run of runsOf(condense(plan).toReversed(), this.#beforeStep !== undefined)) {
      this.#beforeStep?.(run[0], 'revert');
      failures.push(...(await this.#revertRun(run)));
    }
    this.#beforeStep?.(undefined, 'revert');
    return failures;
  }

  async #revertRun(run: readonly Step[]): Promise<readonly Failure[]> {
    const { session } = this.#means;
    // What stood in a namespace that has ended is gone.
    const steps = run.filter(
      (step) => step.do === 'netns.add' || namespacesOf(step).every((netns) => session.exists(netns)),
    );
    try {
      session.look(steps.flatMap(looks));
    } catch (error) {
      const [step] = steps;
      if (!(error instanceof KernelError) || step === undefined) throw error;
      return [{ step, error }];
    }
    const tasks = steps.flatMap((step) => tasksOf(step, inverse(step, session)));
    return (await perform(tasks, this.#means, true)).failures;
  }
}

function tasksOf(step: Step, operations: readonly Operation[]): readonly Task[] {
  return operations.map((operation) => ({ step, operation }));
}

function wasRaced({ operation, error }: Failure): boolean {
  const creates = operation?.via === 'rtnetlink' && operation.creates === true;
  return creates && ['EEXIST', 'EBUSY'].includes(error.errno);
}
