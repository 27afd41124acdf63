export type Mac = string & { readonly __brand: 'Mac' };
