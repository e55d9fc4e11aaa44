import { readSafetensors, readShards } from './safetensors.js';
import type { TensorEntry, TensorTable } from './tensor-table.js';

/**
 * The tensors of one part under today's names: old files call them otherwise, and hold some that nothing
 * reads.
 * @throws CheckpointError when the files are damaged
 */
export async function readPart(file: string): Promise<TensorTable> {
  const table = file.endsWith('.json') ? await readShards(file) : await readSafetensors(file);
  return new Map(
    [...table].flatMap(([name, entry]): [string, TensorEntry][] =>
      unread.test(name) ? [] : [[currentName(name, table), entry]],
    ),
  );
}

/** Counts that older versions stored, and copies of other tensors. */
const unread = /(^|\.)(position_ids|logit_scale)$|^encoder\.embed_tokens\.weight$/;

const oldAttention: Record<string, string> = {
  query: 'to_q',
  key: 'to_k',
  value: 'to_v',
  proj_attn: 'to_out.0',
};

function currentName(name: string, table: TensorTable): string {
  if (
    name.startsWith('embeddings.') ||
    name.startsWith('final_layer_norm.') ||
    /^encoder\.layers\.\d/.test(name)
  )
    return table.has('embeddings.token_embedding.weight') ? `text_model.${name}` : name;
  return name.replace(
    /(mid_block\.attentions\.0\.)(query|key|value|proj_attn)\./,
    (_, path: string, kind: string) => `${path}${oldAttention[kind]}.`,
  );
}
