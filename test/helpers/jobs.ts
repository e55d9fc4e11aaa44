import { randomUUID } from 'node:crypto';
import { isOver, type Job } from '../../client/index.js';
import type { ServiceProcess } from './service-process.js';
import { waitFor } from './wait-for.js';

export const testUserId = '6f1c8f0e-6f0a-4a55-9a5e-3f2b6f1f0a11';

export interface SdxlPayload {
  id: string;
  type: 'sdxl_image_fast' | 'sdxl_image_high';
  prompt: string;
  user_id: string;
  config: Record<string, unknown>;
  metadata: Record<string, unknown>;
}

/** A job payload as producers send it; one picture of 15 steps unless said otherwise. */
export function sdxlPayload(overrides: Partial<SdxlPayload> = {}): SdxlPayload {
  return {
    id: randomUUID(),
    type: 'sdxl_image_fast',
    prompt: 'a red circle above a blue square',
    user_id: testUserId,
    config: { num_images: 1, seed: 7 },
    metadata: {},
    ...overrides,
  };
}

export interface WanPayload {
  id: string;
  type:
    | 'image_fast'
    | 'image_high'
    | 'video_fast'
    | 'video_high'
    | 'image7b_fast_enhanced'
    | 'image7b_high_enhanced'
    | 'video7b_fast_enhanced'
    | 'video7b_high_enhanced';
  prompt: string;
  user_id: string;
  config: Record<string, unknown>;
  metadata: Record<string, unknown>;
}

/** A short video unless said otherwise. */
export function wanPayload(overrides: Partial<WanPayload> = {}): WanPayload {
  return {
    id: randomUUID(),
    type: 'video_fast',
    prompt: 'a red circle moves right',
    user_id: testUserId,
    config: { frame_num: 17, seed: 7 },
    metadata: {},
    ...overrides,
  };
}

/** Submits over HTTP; throws with the answer when it is not accepted. Returns the id. */
export async function submit(service: ServiceProcess, payload: SdxlPayload | WanPayload): Promise<string> {
  const answer = await service.send('POST', '/jobs', payload);
  if (answer.status !== 202) throw new Error(`POST /jobs answered ${answer.status}: ${await answer.text()}`);
  return payload.id;
}

export async function getJob(service: ServiceProcess, id: string): Promise<Job> {
  return (await service.getJson(`/jobs/${id}`)) as Job;
}

/** Waits until `accept` holds for the job; errors of a service that is away are waited out. */
export async function waitForJob(
  service: ServiceProcess,
  id: string,
  accept: (job: Job) => boolean = (job) => isOver(job.status),
  timeoutMs = 60_000,
): Promise<Job> {
  let last: unknown;
  return waitFor(
    async () => {
      const job = await getJob(service, id).catch((error: unknown) => {
        last = error;
      });
      if (!job) return undefined;
      last = job;
      return accept(job) ? job : undefined;
    },
    {
      what: () => `job ${id}; last seen ${JSON.stringify(last)}\n${service.logs().slice(-30).join('\n')}`,
      timeoutMs,
    },
  );
}

/** Bytes of an asset as `GET /jobs/{id}` or a callback names it. */
export async function readAsset(service: ServiceProcess, asset: string): Promise<Buffer> {
  const answer = await fetch(new URL(asset, service.baseUrl), {
    headers: { authorization: `Bearer ${service.apiKey}` },
  });
  if (!answer.ok) throw new Error(`${asset} answered ${answer.status}`);
  return Buffer.from(await answer.arrayBuffer());
}
