// Coming in: by the link that `persona-ctl ui` prints, or by pasting an access token.

import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { enter, loginTrouble } from '../state/session';

export function Login() {
  const isBusy = useSignal(false);
  useEffect(() => {
    document.title = 'Log in · Persona';
  }, []);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const form = event.target as HTMLFormElement;
    const token = String(new FormData(form).get('token') ?? '').trim();
    isBusy.value = true;
    if (await enter({ token })) form.reset();
    isBusy.value = false;
  };
  return (
    <main class="login" id="view">
      <form class="card" onSubmit={submit}>
        <h1>Persona</h1>
        <p>
          Run <code>persona-ctl ui</code> and open the link that it prints. It works once, for a minute.
        </p>
        <label for="token">Or paste an access token</label>
        <input id="token" name="token" type="password" autoComplete="off" spellcheck={false} required />
        {loginTrouble.value !== '' && (
          <p class="trouble" role="alert">
            {loginTrouble.value}
          </p>
        )}
        <button type="submit" class="main" disabled={isBusy.value}>
          Log in
        </button>
        <p class="muted">
          The session may what its token may, lasts eight hours, and is kept in a cookie that scripts cannot
          read.
        </p>
      </form>
    </main>
  );
}
