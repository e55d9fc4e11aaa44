/** `compel_weights` from the queue's string to the drawn picture, judged from its pixels. */
import t from 'tap';
import { heldOutPictures } from '../../tools/pocket-check/fixtures.js';
import { areas } from '../../tools/pocket-check/weights.js';
import { sdxlPayload } from '../helpers/jobs.js';
import { drawFromQueue, startProducer } from '../helpers/producer.js';
import { requireCommand } from '../helpers/requirements.js';
import { startService } from '../helpers/service-process.js';

t.setTimeout(240_000);
const skip = requireCommand('redis-server');

t.test(
  '1.4 in the payload enlarges the object it names, 0.7 shrinks it, and both leave the other one',
  { skip },
  async (t) => {
    const producer = await startProducer(t);
    const service = await startService({ env: producer.env });
    t.teardown(() => service.cleanUp());
    const draw = async (
      prompt: string,
      seed: number,
      compel: { compel_enabled?: true; compel_weights?: string },
    ) =>
      drawFromQueue(t, producer, service, {
        ...sdxlPayload({ prompt, config: { num_images: 1, seed } }),
        ...compel,
      });

    const others = { plain: 0, up: 0, down: 0 };
    for (const [index, item] of heldOutPictures('two').slice(0, 3).entries()) {
      const target = index % 2;
      const phrase = /^a (\w+ \w+) .*? a (\w+ \w+)/u.exec(item.prompt)?.[target + 1] ?? '';
      const seen = async (weight?: number) => {
        const { picture, metadata } = await draw(
          item.prompt,
          7000 + index,
          weight === undefined ? {} : { compel_enabled: true, compel_weights: `(${phrase}:${weight})` },
        );
        if (weight === undefined) t.match(metadata, { compel_success: false, enhancement_strategy: 'none' });
        else
          t.match(metadata, {
            compel_success: true,
            enhancement_strategy: 'compel',
            compel_weights_used: [{ text: phrase, weight }],
          });
        return areas(item, picture) ?? [0, 0];
      };
      const [plain, up, down] = [await seen(), await seen(1.4), await seen(0.7)];
      const told = `"${phrase}" of "${item.prompt}": ${JSON.stringify({ plain, up, down })}`;
      t.ok((up[target] ?? 0) > (plain[target] ?? Infinity), `larger at 1.4, ${told}`);
      t.ok(
        (down[target] ?? Infinity) < (plain[target] ?? 0) && (down[target] ?? 0) > 0,
        `smaller at 0.7, ${told}`,
      );
      others.plain += plain[1 - target] ?? 0;
      others.up += up[1 - target] ?? 0;
      others.down += down[1 - target] ?? 0;
    }
    for (const way of ['up', 'down'] as const) {
      const change = others[way] / others.plain - 1;
      t.ok(Math.abs(change) <= 0.2, `${way}: the other's area changes by ${change.toFixed(3)}`);
    }
  },
);
