/** The list of drivers. A new driver is one new folder and one line here. */
import type { Driver } from '../cnm/driver.ts';
import { bridge } from './bridge/index.ts';
import { macvlan } from './macvlan/index.ts';
import { overlay } from './overlay/index.ts';

export const drivers: readonly Driver[] = [bridge, macvlan, overlay];
