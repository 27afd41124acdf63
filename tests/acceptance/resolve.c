/*
 * What a container's program is told by its C library: `resolve NAME...` prints a line for each name, with its addresses, or why there are none.
 * Built by `musl-gcc -static` it has musl's resolver in it, which asks for both families at once and takes NXDOMAIN for either as the end.
 */
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

static const void *address_of(const struct sockaddr *from)
{
  return from->sa_family == AF_INET ? (const void *)&((const struct sockaddr_in *)from)->sin_addr
                                    : (const void *)&((const struct sockaddr_in6 *)from)->sin6_addr;
}

int main(int count, char **names)
{
  struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
  for (int n = 1; n < count; n++) {
    struct addrinfo *found;
    int status = getaddrinfo(names[n], NULL, &hints, &found);
    printf("%s", names[n]);
    if (status != 0)
      printf(": %s", gai_strerror(status));
    else
      for (; found != NULL; found = found->ai_next) {
        char text[INET6_ADDRSTRLEN] = "?";
        inet_ntop(found->ai_family, address_of(found->ai_addr), text, sizeof text);
        printf(" %s", text);
      }
    printf("\n");
  }
  return 0;
}
