import t from 'tap';
import { createWaitingRoom } from '../../src/services/enhancement/model-access.js';

const free = () => new AbortController().signal;
const keen = { patient: false };

t.test('places, then the line in order, then 429 with a time', async (t) => {
  const line = createWaitingRoom({ places: 2, maxWaiting: 2 });
  const order: string[] = [];
  const [leaveA, leaveB] = await Promise.all([line.enter(free(), keen), line.enter(free(), keen)]);
  const c = line.enter(free(), keen).then((leave) => {
    order.push('c');
    return leave;
  });
  const d = line.enter(free(), keen).then((leave) => {
    order.push('d');
    return leave;
  });
  t.same([line.busy(), line.waiting()], [2, 2]);
  await t.rejects(line.enter(free(), keen), {
    code: 'TOO_MANY_REQUESTS',
    statusCode: 429,
    retryAfterSeconds: 2,
  });
  const job = line.enter(free(), { patient: true });
  t.equal(line.waiting(), 3, 'a job waits on');
  leaveA?.();
  leaveA?.();
  await c;
  t.same([order, line.busy(), line.waiting()], [['c'], 2, 2], 'leaving twice frees one place');
  leaveB?.();
  (await c)();
  (await d)();
  (await job)();
  t.same([order, line.busy(), line.waiting()], [['c', 'd'], 0, 0]);
});

t.test('who gives up leaves the line', async (t) => {
  const line = createWaitingRoom({ places: 1, maxWaiting: 5 });
  const leave = await line.enter(free(), keen);
  const gone = new AbortController();
  const waits = line.enter(gone.signal, keen);
  const next = line.enter(free(), keen);
  gone.abort(new Error('the client went away'));
  await t.rejects(waits, { message: 'the client went away' });
  await t.rejects(line.enter(gone.signal, keen), { message: 'the client went away' }, 'gone before it came');
  leave();
  (await next)();
  gone.abort();
  t.same([line.busy(), line.waiting()], [0, 0]);
});
