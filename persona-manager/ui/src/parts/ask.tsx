// Asking before something is done, and saying how it went: one dialog for every action of the page.

import { signal } from '@preact/signals';
import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';

/** What somebody is asked. */
interface Question {
  title: string;
  body: ComponentChildren;
  /** What the button says that does it. */
  verb: string;
  isHarsh?: boolean;
  /** Does it; what is wrong is thrown. */
  act: (form: FormData) => Promise<string>;
}

const question = signal<Question | null>(null);
const trouble = signal('');
const isBusy = signal(false);

/** What was done last, for the line that says so. */
export const done = signal('');

/** Asks, and does it if the answer is yes. */
export function ask(it: Question): void {
  trouble.value = '';
  done.value = '';
  question.value = it;
}

/** The dialog; it is on the page once. */
export function Dialog() {
  const dialog = useRef<HTMLDialogElement>(null);
  const it = question.value;
  useEffect(() => {
    if (it) dialog.current?.showModal();
    else dialog.current?.close();
  }, [it]);
  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    if (!it || isBusy.value) return;
    isBusy.value = true;
    try {
      done.value = await it.act(new FormData(event.target as HTMLFormElement));
      question.value = null;
    } catch (error) {
      trouble.value = (error as Error).message;
    } finally {
      isBusy.value = false;
    }
  };
  const close = () => {
    question.value = null;
  };
  return (
    <dialog ref={dialog} aria-labelledby="ask-title" onClose={close}>
      {it && (
        <form onSubmit={submit}>
          <h2 id="ask-title">{it.title}</h2>
          {it.body}
          {trouble.value !== '' && (
            <p class="trouble" role="alert">
              {trouble.value}
            </p>
          )}
          <footer>
            <button type="button" onClick={close}>
              Cancel
            </button>
            <button type="submit" class={it.isHarsh ? 'harsh' : 'main'} disabled={isBusy.value}>
              {it.verb}
            </button>
          </footer>
        </form>
      )}
    </dialog>
  );
}

/** The line that says what was done. It is always there, so that it is read out when it changes. */
export function Done() {
  return (
    <p class="done" role="status">
      {done.value}
    </p>
  );
}
