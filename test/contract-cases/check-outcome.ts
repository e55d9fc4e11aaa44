import type { Test } from 'tap';
import type { CallbackReceiver } from '../helpers/callback-receiver.js';
import { readAsset } from '../helpers/jobs.js';
import type { ServiceProcess } from '../helpers/service-process.js';
import { waitFor } from '../helpers/wait-for.js';
import { completed, failed, misfits } from './reference-forms.js';
import { jobIdOf, type ContractCase } from './cases.js';

/** Waits for the outcome of a case that was pushed to its list, and compares it with what the case states. */
export async function checkOutcome(
  t: Test,
  one: ContractCase,
  parts: { service: ServiceProcess; receiver: CallbackReceiver; timeoutMs: number },
): Promise<void> {
  const { service, receiver, timeoutMs } = parts;
  const id = jobIdOf(one);
  if (one.expect.status === 'dead_letter') {
    const letter = await waitFor(
      async () =>
        (await deadLetters(service)).find(
          (candidate) => candidate.queue === one.queue && candidate.payload === one.payload,
        ),
      { what: `the dead letter of "${one.name}"`, timeoutMs },
    );
    t.ok(letter.reason.length > 0, `the reason is "${letter.reason}"`);
    if (one.expect.callback)
      t.equal((await receiver.waitForTerminal(id ?? '', timeoutMs)).body.status, 'failed');
    else
      t.equal(
        receiver.received.some((callback) => id !== undefined && callback.body.job_id === id),
        false,
        'no callback',
      );
    return;
  }
  if (id === undefined) throw new Error(`"${one.name}" has no id to wait for`);
  const { body } = await receiver.waitForTerminal(id, timeoutMs);
  t.equal(body.status, one.expect.status, `status; ${body.error_message ?? 'no error'}`);
  if (one.expect.status === 'completed') {
    t.equal(body.assets.length, one.expect.assets, 'number of assets');
    t.same(misfits(body.metadata, completed), [], 'every value has its type and form');
    for (const asset of body.assets) t.ok((await readAsset(service, asset)).length > 0, asset);
    for (const [field, expected] of Object.entries(one.expect.metadata))
      compareField(t, field, body.metadata[field], expected);
  } else {
    t.ok(body.error_message?.startsWith(one.expect.error_prefix), `error_message: ${body.error_message}`);
    t.ok(body.error_message?.includes(one.expect.names), `it names ${one.expect.names}`);
    t.equal(body.metadata['error_type'], one.expect.error_type);
    t.same(misfits(body.metadata, failed), [], 'every value has its type and form');
    t.same(body.assets, []);
  }
}

/** After everything: one terminal callback a job, and none after it. */
export function checkOrder(t: Test, cases: readonly ContractCase[], receiver: CallbackReceiver): void {
  for (const one of cases) {
    const id = jobIdOf(one);
    if (id === undefined) continue;
    const statuses = receiver.accepted(id).map((callback) => callback.body.status);
    const terminal = statuses.filter((status) => status !== 'processing');
    const expected = one.expect.status === 'dead_letter' && !one.expect.callback ? 0 : 1;
    t.equal(terminal.length, expected, `${one.name}: terminal callbacks ${terminal.join(', ')}`);
    if (expected === 1) t.equal(statuses.at(-1), terminal[0], `${one.name}: nothing after the terminal one`);
  }
}

export async function deadLetters(
  service: ServiceProcess,
): Promise<Array<{ queue: string; payload: string; reason: string }>> {
  const { dead_letters: letters } = (await service.getJson('/dead-letters?limit=100')) as {
    dead_letters: Array<{ queue: string; payload: string; reason: string }>;
  };
  return letters;
}

/** Numbers within 1e-6, everything else exactly; of the notes all but what the demo model says of itself. */
function compareField(t: Test, field: string, found: unknown, expected: unknown): void {
  // It notes every word and size it was not made for; test/jobs/newcomers.test.ts holds it to that.
  if (field === 'prompt_notes') {
    const notes = (found as Array<{ note: string }>).filter(
      ({ note }) => !note.startsWith('this demo model'),
    );
    t.same(notes, expected, `metadata.${field}`);
    return;
  }
  if (typeof expected === 'number' && typeof found === 'number')
    t.ok(Math.abs(found - expected) <= 1e-6, `metadata.${field} is ${found}, expected ${expected}`);
  else t.same(found, expected, `metadata.${field}`);
}
