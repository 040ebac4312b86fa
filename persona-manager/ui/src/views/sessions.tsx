// Who is at the page: for administrators, who may end any session.

import { list, remove, type WebSessionView } from '../api/client';
import { ask } from '../parts/ask';
import { Shown, Table, Time } from '../parts/basics';
import { useRead } from '../state/read';
import { me } from '../state/session';

export function Sessions() {
  const seen = useRead('sessions', () => list('/v1/web-sessions'));
  const end = ({ id, owner }: WebSessionView) =>
    ask({
      title: `End the session of ${owner}?`,
      body: <p>Whoever is there is out at once. Their token stays good.</p>,
      verb: 'End',
      isHarsh: true,
      act: async () => {
        await remove('/v1/web-sessions/{id}', { id });
        seen.again();
        return `The session of ${owner} was ended.`;
      },
    });
  return (
    <Shown of={seen}>
      {(sessions) => (
        <section class="card" aria-label="All sessions">
          <Table
            label="Sessions"
            rows={sessions.items}
            keyOf={(it) => it.id}
            none="Nobody."
            columns={[
              { name: 'Session', show: (it) => <code>{it.id}</code> },
              {
                name: 'Whose',
                show: (it) => `${it.owner}${me.value?.actor.endsWith(`/${it.id}`) ? ' (this one)' : ''}`,
              },
              { name: 'Role', show: (it) => it.role },
              { name: 'Since', from: 'medium', show: (it) => <Time ms={it.createdMs} /> },
              { name: 'Ends', from: 'medium', show: (it) => <Time ms={it.expiresMs} /> },
              {
                name: 'Action',
                show: (it) => (
                  <button
                    type="button"
                    onClick={() => end(it)}
                    aria-label={`End session ${it.id} of ${it.owner}`}
                  >
                    End
                  </button>
                ),
              },
            ]}
          />
        </section>
      )}
    </Shown>
  );
}
