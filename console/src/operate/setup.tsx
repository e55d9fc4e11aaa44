import published from '../../../models/published.json';
import { api, type Capabilities, ownUserId } from '../api.js';
import { bytes, engineName } from '../format.js';
import { Copyable, Facts, Head, Notice } from '../ui.js';
import { useLoaded } from '../use-loaded.js';

/** What this instance draws with, what else there is, and how to call it from elsewhere. */
export function SetupScreen({ capabilities }: { capabilities: Capabilities | undefined }) {
  return (
    <>
      <Head title="Setup">
        <a class="button plain" href="/docs" target="_blank" rel="noopener">
          The whole interface
        </a>
      </Head>
      {capabilities !== undefined && <Here capabilities={capabilities} />}
      <Calls />
      <Published />
    </>
  );
}

function Here({
  capabilities: { engines, features_off: off, queue, storage, worker_version: version },
}: {
  capabilities: Capabilities;
}) {
  return (
    <section class="section" aria-label="Models here">
      <div class="section-head">
        <h2>Models here</h2>
        <span class="hint">
          version {version}, {queue} queue, {storage} storage
        </span>
      </div>
      <div class="cards">
        {Object.entries(engines).map(([kind, engine]) => (
          <div class="card" key={kind}>
            <div class="card-head">
              <h3>{engineName(kind)}</h3>
              <span class={`badge ${engine.available ? 'good' : ''}`}>{engine.device ?? engine.state}</span>
            </div>
            <p>{engine.model ?? (engine.available ? 'Loaded when it is needed' : 'No model')}</p>
            {engine.reason !== undefined && <p class="hint">{engine.reason}</p>}
            {engine.features.length > 0 && <p class="hint">{engine.features.join(', ')}</p>}
            {engine.device_notes.map((note) => (
              <Notice key={note}>{note}</Notice>
            ))}
          </div>
        ))}
      </div>
      {off.length > 0 && (
        <Facts rows={off.map(({ feature, reason }) => [feature.replaceAll('_', ' '), reason] as const)} />
      )}
    </section>
  );
}

function Published() {
  return (
    <section class="section" aria-label="Models to pull or import">
      <div class="section-head">
        <h2>Models to pull</h2>
        <span class="hint">on the machine of the service, where it was installed</span>
      </div>
      <ul class="lines">
        {published.models.map(({ name, title, licence, bytes: size, engine }) => (
          <li key={name}>
            <div>
              <strong>{title}</strong> <span class="badge">{engineName(engine)}</span>
            </div>
            <span class="hint">
              {bytes(size)}, {licence}
            </span>
            <code>npx ourvidz models pull {name}</code>
          </li>
        ))}
      </ul>
      <div class="section-head">
        <h2>Models to import</h2>
      </div>
      <p>
        A <code>.safetensors</code> file of SDXL, or a folder of Wan 2.1, runs as it is: put it into the
        models folder, or let <code>npx ourvidz models import FILE</code> look at it first.
      </p>
    </section>
  );
}

/** The last job, as others would ask for it. */
function Calls() {
  const { data } = useLoaded((signal) => lastBody(signal), []);
  if (data === undefined) return null;
  const body = JSON.stringify(data, null, 2);
  const single = body.replaceAll("'", "'\\''");
  const { origin } = location;
  return (
    <section class="section" aria-label="Call it from elsewhere">
      <div class="section-head">
        <h2>The last job, from elsewhere</h2>
        <span class="hint">with a key in KEY</span>
      </div>
      <Copyable
        label="curl"
        text={`curl -fsS ${origin}/jobs -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" -d '${single}'`}
      />
      <Copyable
        label="TypeScript"
        text={`import { createClient } from 'ourvidz-worker/client';

const ourvidz = createClient({ url: '${origin}', key: process.env.KEY });
const { id } = await ourvidz.createJob({
  body: ${body.replaceAll('\n', '\n  ')},
});
const job = await ourvidz.finishedJob(id);
console.log(job.assets.map((asset) => ourvidz.addressOf(asset)));`}
      />
    </section>
  );
}

async function lastBody(signal: AbortSignal): Promise<object> {
  const { jobs } = await api.listJobs({ limit: 1 }, { signal });
  const example = {
    type: 'sdxl_image_fast',
    prompt: 'a red circle above a blue square',
    user_id: ownUserId(),
  };
  const [last] = jobs;
  if (last === undefined) return example;
  const { request, type, user_id: user } = await api.getJob({ id: last.id }, { signal });
  return request === undefined ? { ...example, type } : { type, ...request, user_id: user };
}
