//! The objects written in files, or every problem of them.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use weir_config::{
    App, AppManifest, Document, HostPath, Hostname, Manifest, Problem, Problems, parse_documents,
};

/// What the files say.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    /// The valid ones: what others name before those.
    pub(super) objects: Vec<Manifest>,
    /// For each file its name and how many objects were found in it, valid or not.
    pub(super) files: Vec<(String, usize)>,
    /// `FILE:LINE:COL: field: message`, in the order in which they are written.
    pub(super) problems: Vec<String>,
    /// Where the object of a kind and a name is written.
    names: BTreeMap<(Kind, String), String>,
    hostnames: BTreeMap<HostPath, Claim>,
}

/// The kinds of objects, in the order in which they are written: what apps need before them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Host,
    Shard,
    Zone,
    Provider,
    FailoverPolicy,
    Issuer,
    App,
    Notifier,
}

impl Kind {
    fn of(manifest: &Manifest) -> Self {
        match manifest {
            Manifest::Host(_) => Self::Host,
            Manifest::Shard(_) => Self::Shard,
            Manifest::Zone(_) => Self::Zone,
            Manifest::Issuer(_) => Self::Issuer,
            Manifest::Provider(_) => Self::Provider,
            Manifest::FailoverPolicy(_) => Self::FailoverPolicy,
            Manifest::App(_) => Self::App,
            Manifest::Notifier(_) => Self::Notifier,
        }
    }

    /// As in a sentence.
    fn one(self) -> &'static str {
        match self {
            Self::Host => "a host",
            Self::Shard => "a shard",
            Self::Zone => "a zone",
            Self::Issuer => "an issuer",
            Self::Provider => "a provider",
            Self::FailoverPolicy => "a failover policy",
            Self::App => "an app",
            Self::Notifier => "a notifier",
        }
    }
}

/// Who had a host name first, and where that is written.
#[derive(Debug)]
struct Claim {
    app: String,
    place: String,
}

impl Manifests {
    /// Reads every file to its end, whatever is wrong with others. `-` is standard input.
    pub(super) fn read(files: &[PathBuf]) -> Self {
        let mut manifests = Self::default();
        for file in files {
            let (name, text) = match file.as_os_str() == "-" {
                true => ("stdin".to_owned(), io::read_to_string(io::stdin())),
                false => (file.display().to_string(), read(file)),
            };
            match text {
                Ok(text) => manifests.add_file(&name, &text),
                Err(error) => manifests.problems.push(format!("{name}: cannot be read: {error}")),
            }
        }
        // Those of a kind stay in the order in which they are written.
        manifests.objects.sort_by_key(Kind::of);
        manifests
    }

    fn add_file(&mut self, file: &str, text: &str) {
        let documents = match parse_documents(text) {
            Ok(documents) => documents,
            Err(problems) => return self.tell(file, &problems),
        };
        for document in &documents {
            if let Err(problems) = self.add(file, document) {
                self.tell(file, &problems);
            }
        }
        self.files.push((file.to_owned(), documents.len()));
    }

    fn add(&mut self, file: &str, document: &Document) -> Result<(), Problems> {
        let read = Manifest::read(document.value.clone(), &base_domain());
        let manifest = read.map_err(|problems| document.locate(problems))?;
        let mut taken = self.claim_name(file, document, &manifest);
        if let Manifest::App(app) = &manifest
            && taken.0.is_empty()
        {
            let (manifest, app) = &**app;
            taken = self.claim_hostnames(file, document, manifest, app);
        }
        document.locate(taken).or_value(())?;
        self.objects.push(manifest);
        Ok(())
    }

    /// Takes a name for an object of a kind; what another has taken is a problem.
    fn claim_name(&mut self, file: &str, document: &Document, manifest: &Manifest) -> Problems {
        let mut problems = Problems::default();
        let (kind, name) = (Kind::of(manifest), manifest.name());
        let key = (kind, name.to_owned());
        if let Some(first) = self.names.get(&key) {
            let message = format!("`{name}` is already {}, at {first}", kind.one());
            problems.push(Problem::new("/name", "taken", message));
        } else {
            self.names.insert(key, place(file, document, "/name"));
        }
        problems
    }

    fn claim_hostnames(
        &mut self,
        file: &str,
        document: &Document,
        manifest: &AppManifest,
        app: &App,
    ) -> Problems {
        let mut problems = Problems::default();
        for hostname in &app.hostnames {
            let pointer = pointer_of(hostname, manifest);
            if let Some(Claim { app, place }) = self.hostnames.get(hostname) {
                let message = format!("`{hostname}` already belongs to {app}, at {place}");
                problems.push(Problem::new(pointer, "taken", message));
                continue;
            }
            let claim =
                Claim { app: manifest.name.clone(), place: place(file, document, &pointer) };
            self.hostnames.insert(hostname.clone(), claim);
        }
        problems
    }

    fn tell(&mut self, file: &str, problems: &Problems) {
        let mut sorted: Vec<_> = problems.0.iter().collect();
        sorted.sort_by_key(|problem| problem.place.map(|place| (place.line, place.column)));
        self.problems.extend(sorted.iter().map(|problem| format!("{file}:{problem}")));
    }
}

fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(file)?.read_to_string(&mut text)?;
    Ok(text)
}

/// The base domain is the server's to know. This one finds the same problems, but for host names
/// under the server's own.
fn base_domain() -> Hostname {
    "weir.localhost".parse().expect("this is a host name")
}

/// Where a host name is written; the one that every app has comes of its name.
fn pointer_of(hostname: &HostPath, manifest: &AppManifest) -> String {
    let written = &manifest.spec.hostnames;
    let is_it = |text: &String| text.parse::<HostPath>().is_ok_and(|parsed| parsed == *hostname);
    match written.iter().position(is_it) {
        Some(i) => format!("/spec/hostnames/{i}"),
        None if manifest.spec.redirects.contains_key(&*hostname.host) => {
            format!("/spec/redirects/{hostname}")
        }
        None => "/name".to_owned(),
    }
}

fn place(file: &str, document: &Document, pointer: &str) -> String {
    let located = document.locate(Problems(vec![Problem::new(pointer, "", "")]));
    match located.0.first().and_then(|problem| problem.place) {
        Some(place) => format!("{file}:{}", place.line),
        None => file.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        let mut manifests = Manifests::default();
        for (name, text) in files {
            manifests.add_file(name, text);
        }
        manifests.problems
    }

    #[test]
    fn every_problem_of_every_file_is_told_with_its_place() {
        let a =
            "kind: App\nname: a\nspec:\n  imgae: x\n---\nkind: App\nname: B\nspec:\n  image: x\n";
        let b = "kind: [App";
        let c = "kind: App\nname: c\nspec: {image: x, port: 0}\n";
        let found = problems(&[("a.yaml", a), ("b.yaml", b), ("c.yaml", c)]);
        let places: Vec<_> = found.iter().map(|line| line.split(": ").next().unwrap()).collect();
        assert_eq!(
            places,
            ["a.yaml:3:1", "a.yaml:4:3", "a.yaml:7:1", "b.yaml:2:1", "c.yaml:3:18"],
            "{found:#?}"
        );
    }

    #[test]
    fn a_name_or_host_name_belongs_to_one_app() {
        let a = "kind: App\nname: a\nspec: {image: x, hostnames: [shop.example.com]}\n";
        let b = "kind: App\nname: b\nspec:\n  image: x\n  hostnames:\n    - Shop.Example.com\n";
        assert_eq!(
            problems(&[("a.yaml", a), ("b.yaml", b), ("c.yaml", a)]),
            [
                "b.yaml:6:7: spec.hostnames.0: `shop.example.com` already belongs to a, at a.yaml:3",
                "c.yaml:2:1: name: `a` is already an app, at a.yaml:2",
            ]
        );
    }

    #[test]
    fn the_name_every_app_has_can_be_taken_too() {
        let a = "kind: App\nname: a\nspec: {image: x, hostnames: [b.weir.localhost]}\n";
        let b = "kind: App\nname: b\nspec: {image: x}\n";
        assert_eq!(
            problems(&[("a.yaml", a), ("b.yaml", b)]),
            ["b.yaml:2:1: name: `b.weir.localhost` already belongs to a, at a.yaml:3"]
        );
    }
}
