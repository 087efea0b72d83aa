//! S3: what commands wrote.
//!
//! Owns reading one object, listing and removing everything below a prefix, and the question whether the bucket can be
//! used at all. Called for the outputs of commands and by cleaning up.

use std::cell::Cell;

use super::error::{Error, Kind};
use super::managed::following;
use super::session::{Session, of_sdk};

impl Session {
    /// The object's bytes; `None` when there is none (yet).
    pub async fn object(&self, bucket: &str, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let action = "s3:GetObject";
        let request = self.s3.get_object().bucket(bucket).key(key);
        let bytes = self.again(async || {
            let answer = request.clone().send().await;
            let object = answer.map_err(|error| of_sdk(action, &error))?;
            let bytes = object.body.collect().await;
            bytes.map_err(|error| Error::new(action, Kind::NoAnswer, error.to_string()))
        });
        match bytes.await {
            Ok(bytes) => Ok(Some(bytes.into_bytes().into())),
            Err(error) if error.kind == Kind::NotFound && error.code != "NoSuchBucket" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The keys below a prefix.
    pub async fn objects(&self, bucket: &str, prefix: &str) -> Result<Vec<String>, Error> {
        let action = "s3:ListBucket";
        let request = self.s3.list_objects_v2().bucket(bucket).prefix(prefix);
        let mut keys = Vec::new();
        let mut token = None;
        loop {
            let page = self.again(async || {
                let request = request.clone().set_continuation_token(token.clone());
                let answer = request.send().await;
                answer.map_err(|error| of_sdk(action, &error))
            });
            let page = page.await?;
            let listed = page.contents().iter().filter_map(|object| object.key());
            let below = listed.filter(|key| key.starts_with(prefix));
            keys.extend(below.map(str::to_owned));
            token = following(page.next_continuation_token(), token.as_deref());
            if token.is_none() {
                return Ok(keys);
            }
        }
    }

    /// Removes everything below a prefix; says what that was. The prefix has to end with a slash, so that no neighbour's
    /// name begins with it.
    pub async fn remove_objects(&self, bucket: &str, prefix: &str) -> Result<Vec<String>, Error> {
        let action = "s3:DeleteObject";
        if !prefix.ends_with('/') || prefix.len() < 2 {
            let why = format!("{prefix:?} is no folder");
            return Err(Error::new(action, Kind::Invalid, why));
        }
        let keys = self.objects(bucket, prefix).await?;
        // One by one: the call for many needs another permission and a checksum, and there are a few dozen.
        let mut first = None;
        for key in &keys {
            let request = self.s3.delete_object().bucket(bucket).key(key);
            let removed = self.again(async || {
                let answer = request.clone().send().await;
                answer.map_err(|error| of_sdk(action, &error))
            });
            match removed.await {
                Err(error) if error.kind != Kind::NotFound => {
                    first.get_or_insert(error);
                }
                _ => {}
            }
        }
        first.map_or(Ok(keys), Err)
    }

    /// Whether the bucket is there, in this region and ours to use.
    pub async fn check_bucket(&self, bucket: &str) -> Result<(), Error> {
        let action = "s3:HeadBucket";
        let request = self.s3.head_bucket().bucket(bucket);
        let region = Cell::new(None);
        let asked = self.again(async || {
            let answer = request.clone().send().await;
            answer.map(|_| ()).map_err(|error| {
                let told = error.raw_response().and_then(|answer| {
                    let region = answer.headers().get("x-amz-bucket-region");
                    region.map(str::to_owned)
                });
                region.set(told);
                of_sdk(action, &error)
            })
        });
        let mut error = match asked.await {
            Ok(()) => return Ok(()),
            // What is done with it later is listing.
            Err(error) if error.kind == Kind::NotOffered => {
                return self.objects(bucket, "autosizer/").await.map(|_| ());
            }
            Err(error) => error,
        };
        match region.take() {
            Some(region) if region != self.region() => {
                let own = self.region();
                error.message = format!("the bucket {bucket:?} is in {region}, not in {own}");
            }
            _ if error.kind == Kind::NotFound => {
                error.message = format!("there is no bucket {bucket:?}");
            }
            _ => {}
        }
        Err(error)
    }
}
