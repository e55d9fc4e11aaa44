import path from 'node:path';
import t from 'tap';
import { parsePrompt, type Fragment, type ParsedPrompt } from '../../src/inference/diffusion/prompt-weights.js';
import { readSafetensors } from '../../src/inference/diffusion/safetensors.js';
import { openSdxlModel } from '../../src/inference/sdxl/model.js';
import { conditionText, frameFragments } from '../../src/inference/sdxl/weighted-conditioning.js';
import { projectRoot } from '../../src/project-root.js';
import { kitFolder, readCases, requireKit, worstDifference } from './kit.js';

type Part = { type: 'prompt'; fragments: Array<[string, number]> } | { type: 'blend'; weights: number[]; normalize_weights: boolean; prompts: Array<Array<[string, number]>> };
interface CompelCase {
  name: string; prompt: string; error?: string; parsed: { parts: Part[]; weights: number[] };
  tokens?: Array<{ input_ids: number[]; input_ids_2: number[]; weights: number[]; mask: number[] }>;
}

/** Compel puts blanks around some punctuation; tokens decide, so blanks are not compared. */
const squeeze = (fragments: Array<[string, number]> | Fragment[]) =>
  fragments.map((item) => (Array.isArray(item) ? { text: item[0], weight: item[1] } : item)).map(({ text, weight }) => `${text.replaceAll(/\s+/g, '')} ${weight.toFixed(6)}`);

function partsOf(parsed: ParsedPrompt): string[][] {
  return parsed.kind === 'prompt' ? [squeeze(parsed.fragments)] : parsed.prompts.map((fragments) => squeeze(fragments));
}

t.test('weights are read and applied as Compel 2.4 does', async (t) => {
  if (!requireKit(t, 'compel')) return;
  const model = await openSdxlModel(path.join(projectRoot(), 'test/parity/models/sdxl-tiny'), { device: 'cpu', threads: 1 });
  t.teardown(() => model.release());
  const recorded = await readSafetensors(path.join(kitFolder, 'compel/compel.safetensors'));
  const { cases } = await readCases<{ cases: CompelCase[] }>('compel/cases.json');
  for (const item of cases) {
    await t.test(item.name, async (t) => {
      const parsed = parsePrompt(item.prompt, 'compel');
      const expected = item.parsed.parts.flatMap((part) => (part.type === 'blend' ? part.prompts.map((fragments) => squeeze(fragments)) : [squeeze(part.fragments)]));
      t.same(partsOf(parsed), expected, 'fragments and weights');
      const lists = parsed.kind === 'prompt' ? [parsed.fragments] : parsed.prompts;
      item.tokens?.forEach((tokens, i) => {
        const [first, second] = model.encoders.map((encoder) => frameFragments(encoder, lists[i] ?? []));
        t.same(first?.ids, tokens.input_ids, 'ids');
        t.same(second?.ids, tokens.input_ids_2, 'ids of the second tokenizer');
        t.ok(worstDifference(first?.weights ?? [], tokens.weights) <= 1e-6, 'token weights');
      });
      const reference = recorded.get(`${item.name}/conditioning`);
      if (reference === undefined) {
        t.ok(item.error, `no tensors recorded, because Compel itself fails: ${item.error}`);
        return;
      }
      const { embeds, pooled } = await conditionText(model, item.prompt, { parseWeights: true, syntax: 'compel' });
      const worst = worstDifference(embeds, reference.data as Float32Array);
      t.ok(worst <= 1e-4, `conditioning: worst difference ${worst}`);
      const worstPooled = worstDifference(pooled, recorded.get(`${item.name}/pooled`)?.data as Float32Array);
      t.ok(worstPooled <= 1e-4, `pooled: worst difference ${worstPooled}`);
    });
  }
});
