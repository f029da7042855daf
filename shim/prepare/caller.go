package prepare

// Annotations that containerd's CRI service sets after those of the user
// (internal/cri/annotations/annotations.go).
const (
	criContainerType    = "io.kubernetes.cri.container-type"
	criSandboxNamespace = "io.kubernetes.cri.sandbox-namespace"
)

// criNamespace is containerd's own namespace for what kubelet runs.
const criNamespace = "k8s.io"

// Caller binds who asks, for a container in one of containerd's namespaces: the
// Kubernetes namespace of its pod where containerd's CRI service made it, else
// containerd's namespace.
//
// The CRI's annotations count in its own namespace only. Anywhere else a user
// of ctr, nerdctl or Docker could write them.
func Caller(namespace string, annotations map[string]string) string {
	if namespace == criNamespace && annotations[criContainerType] != "" {
		if pod := annotations[criSandboxNamespace]; isLabel(pod) {
			return "kubernetes:" + pod
		}
	}
	return "containerd:" + namespace
}

// isLabel reports whether s is a DNS label, as the name of every Kubernetes
// namespace is (RFC 1123).
func isLabel(s string) bool {
	if s == "" || len(s) > 63 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case c == '-' && i > 0 && i < len(s)-1:
		default:
			return false
		}
	}
	return true
}
