import { useState } from 'preact/hooks';
import { farewell, OurVidzError, reason, signIn } from './api.js';
import { useCell } from './cell.js';
import { Field, Notice } from './ui.js';

export function Login() {
  const said = useCell(farewell);
  const [key, setKey] = useState('');
  const [problem, setProblem] = useState('');
  const [busy, setBusy] = useState(false);

  async function submit(event: Event): Promise<void> {
    event.preventDefault();
    setBusy(true);
    setProblem('');
    try {
      await signIn(key.trim());
    } catch (error) {
      const wrong = error instanceof OurVidzError && error.status === 401;
      setProblem(wrong ? 'Nobody has this key here. Check that it was copied whole.' : reason(error));
      setBusy(false);
    }
  }

  return (
    <main class="login">
      <form onSubmit={(event) => void submit(event)} aria-labelledby="login-title">
        <Mark />
        <h1 id="login-title">OurVidz</h1>
        <p class="lead">Pictures and videos from this machine.</p>
        {said !== '' && problem === '' && <Notice>{said}</Notice>}
        <input
          class="unseen"
          type="text"
          autocomplete="username"
          value="ourvidz"
          readOnly
          tabIndex={-1}
          aria-hidden="true"
        />
        <Field label="Key">
          {(id) => (
            <input
              id={id}
              type="password"
              name="key"
              autocomplete="current-password"
              spellcheck={false}
              value={key}
              aria-invalid={problem !== ''}
              aria-describedby="login-hint"
              onInput={({ currentTarget }) => setKey(currentTarget.value)}
            />
          )}
        </Field>
        {problem !== '' && <Notice tone="error">{problem}</Notice>}
        <button class="button main" type="submit" disabled={busy || key.trim() === ''} aria-busy={busy}>
          Sign in
        </button>
        <p class="hint" id="login-hint">
          The service&rsquo;s API key, or a token of it. A service that was given none wrote its own into the
          file <code>api-key</code> of its data folder.
        </p>
      </form>
    </main>
  );
}

export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" width="32" height="32" aria-hidden="true">
      <rect width="32" height="32" rx="7" />
      <circle cx="12.5" cy="13" r="5.5" />
      <path d="M17 14.5h9v9h-9z" />
    </svg>
  );
}
