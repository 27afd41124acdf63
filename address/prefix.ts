export type Prefix = string & { readonly __brand: 'Prefix' };
