// The page begins: who is here, what happens, and the view that the address names.

import { render } from 'preact';
import { App } from './app';
import { followLinks } from './router';
import { followWhileLoggedIn } from './state/events';
import { arrive } from './state/session';
import './style.css';

followLinks();
followWhileLoggedIn();
void arrive();
render(<App />, document.body);
