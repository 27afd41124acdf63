/** IP addresses as values. Placeholder signatures. */
export type Ip = string & { readonly __brand: 'Ip' };
